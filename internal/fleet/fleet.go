// Package fleet is the serving process: the issuers that it serves, their
// revisions and sources, the reload of the configuration, and readiness.
//
// Data flows one way. The configuration names issuers. Each issuer has a current
// revision, and after a change a next one; each revision has a source, which
// publishes keys to the documents of that revision. The site serves the documents
// of the current revisions.
package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"oidc-provider/discovery"
	"oidc-provider/internal/certs"
	"oidc-provider/internal/config"
	"oidc-provider/internal/resources"
	"oidc-provider/internal/signer"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// Config is what a [Fleet] needs. Settings, Metrics and Log must be set.
type Config struct {
	// Settings, complete with defaults.
	Settings *config.Config

	// File is where Settings were read from, and Content what was read. The file
	// is watched, and its changes take effect. An empty File means that Settings
	// have one issuer, which an operator has typed: an error of that issuer other
	// than that its store is unavailable ends the process.
	File    string
	Content []byte

	// TrustClock says that an operator vouches for the clock of this machine.
	TrustClock bool

	// Opened is called when the ring of the issuer of a command line is open, with
	// the ring, and whether its keys were just created. May be nil.
	Opened func(ring *rotation.Ring, created bool)

	// SettingName returns what the operator calls a setting: see package hint.
	SettingName func(field string) string

	// Metrics is where the metrics are registered, and what /metrics serves.
	Metrics *prometheus.Registry

	Log *slog.Logger
}

// A Fleet serves issuers.
type Fleet struct {
	cfg     Config
	site    *web.Site
	issuers *issuers
	reload  *reloader // nil without a file

	public, admin, challenges net.Listener       // challenges may be nil
	limits                    web.Limits         // of public
	cert                      *certs.Certificate // at most one of cert and acme is set
	acme                      *certs.ACME

	stopping atomic.Bool
}

// New opens the addresses and loads the certificate. It touches no key. The caller
// must call Run or Close.
func New(ctx context.Context, cfg Config) (*Fleet, error) {
	settings := cfg.Settings
	f := &Fleet{cfg: cfg, site: web.NewSite(web.SiteConfig{AnyHost: settings.AnyHost || cfg.File == ""})}
	f.issuers = &issuers{
		log: cfg.Log, site: f.site, sockets: signer.NewSockets(cfg.Log, cfg.Metrics), stateDir: settings.StateDir,
		failFast: cfg.File == "", trustClock: cfg.TrustClock, opened: cfg.Opened, failed: make(chan error, 1),
	}
	if cfg.File != "" {
		f.reload = newReloader(cfg.File, cfg.Content, settings, cfg.Log)
	}
	f.limits = publicLimits(settings, resources.LimitMemory(), resources.MaxFiles())
	if err := f.bind(ctx); err != nil {
		f.Close()
		return nil, err
	}
	for _, c := range f.metrics() {
		cfg.Metrics.MustRegister(c)
	}
	return f, nil
}

// PublicAddr returns the address of the documents.
func (f *Fleet) PublicAddr() net.Addr { return f.public.Addr() }

// AdminAddr returns the address of /livez, /readyz and /metrics.
func (f *Fleet) AdminAddr() net.Addr { return f.admin.Addr() }

// Close closes the addresses of a fleet that does not run.
func (f *Fleet) Close() {
	for _, l := range []net.Listener{f.public, f.admin, f.challenges} {
		if l != nil {
			l.Close()
		}
	}
}

// Run serves until ctx is done, and then stops in this order: readiness, then,
// after the shutdown delay, the documents and the signers, and last the address
// for operators.
func (f *Fleet) Run(ctx context.Context) error {
	defer f.Close()
	// What fails ends everything else.
	g, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, endServing := context.WithCancel(failed)
	adminServing, endAdmin := context.WithCancel(failed)
	defer endServing()
	defer endAdmin()

	start := func(issuers []config.Issuer) {
		if err := unreachable(f.cfg.Settings, issuers); err != nil {
			f.cfg.Log.Warn("an issuer is https, and this process listens on a loopback address without TLS", "err", err)
		}
		f.apply(serving, issuers)
	}
	if f.reload != nil {
		f.reload.first(start)
	} else {
		start(f.cfg.Settings.Issuers)
	}
	g.Go(func() error {
		return web.Serve(adminServing, web.ServeConfig{
			Listener: f.admin, Handler: web.Admin(f.checks, f.cfg.Metrics, f.cfg.Log), Limits: web.Limits{Connections: ownConnections},
			Log: f.cfg.Log,
		})
	})
	g.Go(func() error {
		err := f.serve(serving)
		endServing() // of the sources
		f.issuers.wait()
		endAdmin()
		return err
	})
	g.Go(func() error {
		f.awaitEnd(ctx, failed)
		endServing()
		return nil
	})
	err := f.await(ctx, g)
	if err == nil {
		f.cfg.Log.Info("stopped")
	}
	return err
}

// endTimeout is how long the process may take to end after the shutdown delay:
// a little longer than all that it waits for.
const endTimeout = 20 * time.Second

// await returns when g has ended, or does not wait for it if a part of it hangs.
func (f *Fleet) await(ctx context.Context, g *errgroup.Group) error {
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Duration(f.cfg.Settings.ShutdownDelay) + endTimeout):
		return errors.New("stopping: a part of the process hangs, and is not waited for")
	}
}

// awaitEnd returns when serving should end: at once if failed is done, and a delay
// after ctx is done, in which load balancers notice.
func (f *Fleet) awaitEnd(ctx, failed context.Context) {
	select {
	case <-failed.Done():
		return
	case <-ctx.Done():
	}
	delay := time.Duration(f.cfg.Settings.ShutdownDelay)
	f.stopping.Store(true)
	f.cfg.Log.Info("stopping: not ready any more; a second signal stops at once", "delay", delay)
	select {
	case <-failed.Done():
	case <-time.After(delay):
	}
}

// serve runs what serves relying parties, and what keeps that up to date, until
// ctx is done or a part fails.
func (f *Fleet) serve(ctx context.Context) error {
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error {
		select {
		case err := <-f.issuers.failed:
			f.stopping.Store(true)
			return err
		case <-ctx.Done():
			return nil
		}
	})
	// A challenge that is under way needs the addresses until it has ended.
	answering, endAnswering := context.WithCancel(context.WithoutCancel(ctx))
	parts.Go(func() error {
		<-ctx.Done()
		if f.acme != nil {
			f.acme.Stop()
		}
		endAnswering()
		return nil
	})
	var secure *tls.Config
	switch {
	case f.cert != nil:
		secure = f.cert.TLSConfig()
		parts.Go(func() error { f.cert.Watch(ctx, f.cfg.Log); return nil })
	case f.acme != nil:
		secure = f.acme.TLSConfig()
	}
	if f.challenges != nil {
		parts.Go(func() error {
			return web.Serve(answering, web.ServeConfig{
				Listener: f.challenges, Handler: f.acme.Challenges(web.NotFound(f.cfg.Log)),
				Limits: web.Limits{Connections: ownConnections}, Log: f.cfg.Log,
			})
		})
	}
	if f.reload != nil {
		parts.Go(func() error {
			f.reload.run(ctx, func(issuers []config.Issuer) { f.apply(ctx, issuers) })
			return nil
		})
	}
	parts.Go(func() error {
		f.issuers.settle(ctx)
		return web.Serve(answering, web.ServeConfig{
			Listener: f.public, Handler: web.Public(f.site, f.cfg.Metrics, f.cfg.Log), TLS: secure, Limits: f.limits,
			Metrics: f.cfg.Metrics, Log: f.cfg.Log,
		})
	})
	return parts.Wait()
}

// apply serves exactly these issuers, and obtains certificates for their hosts.
// Their sources run until ctx is done.
func (f *Fleet) apply(ctx context.Context, issuers []config.Issuer) {
	f.issuers.apply(ctx, issuers)
	tuneGC(len(issuers))
	if f.acme == nil {
		return
	}
	var hosts []string
	for _, cfg := range issuers {
		issuer, err := discovery.ParseIssuer(cfg.Issuer)
		if err != nil {
			continue // config has checked it
		}
		if u := issuer.URL(); u.Scheme == "https" {
			hosts = append(hosts, discovery.Hostname(u.Host))
		}
	}
	slices.Sort(hosts)
	f.acme.Manage(ctx, slices.Compact(hosts))
}
