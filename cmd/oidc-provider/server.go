package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"oidc-provider/discovery"
	"oidc-provider/internal/certs"
	"oidc-provider/internal/config"
	"oidc-provider/web"
)

// A server is the parts of `serve` that run side by side.
type server struct {
	cfg     *config.Config
	log     *slog.Logger
	metrics *prometheus.Registry
	fleet   *fleet
	reload  *reloader // nil if there is no file

	public, admin, challenges net.Listener       // challenges may be nil
	cert                      *certs.Certificate // at most one of these is there
	acme                      *certs.ACME

	stopping atomic.Bool
}

// bind opens every address and loads the certificate.
func (s *server) bind(ctx context.Context) (err error) {
	if t := s.cfg.TLS; t != nil && t.ACME == nil {
		if s.cert, err = certs.Load(t.CertFile, t.KeyFile); err != nil {
			return err
		}
		s.metrics.MustRegister(s.cert.Metric())
	}
	names := []string{"--listen", "--admin-listen"}
	if s.reload != nil {
		names = []string{"listen", "adminListen"}
	}
	if s.public, err = listen(ctx, names[0], s.cfg.Listen); err != nil {
		return err
	}
	if s.admin, err = listen(ctx, names[1], s.cfg.AdminListen); err != nil {
		return err
	}
	if s.cfg.TLS != nil && s.cfg.TLS.ACME != nil {
		return s.bindACME(ctx, s.cfg.TLS.ACME)
	}
	return nil
}

func (s *server) bindACME(ctx context.Context, cfg *config.ACME) (err error) {
	acme := certs.ACMEConfig{
		Directory: cfg.Directory, Email: cfg.Email, Storage: cfg.Storage, CAFile: cfg.CAFile, Challenges: cfg.Challenges,
		TLSPort: port(s.public), CheckInterval: time.Duration(cfg.CheckInterval), Log: s.log,
	}
	if slices.Contains(cfg.Challenges, config.HTTP01) {
		if s.challenges, err = listen(ctx, "tls.acme.httpListen", cfg.HTTPListen); err != nil {
			return err
		}
		acme.HTTPPort = port(s.challenges)
	}
	if s.acme, err = certs.NewACME(acme); err != nil {
		return err
	}
	s.metrics.MustRegister(s.acme.Metric())
	return nil
}

func port(l net.Listener) int {
	_, text, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.Atoi(text)
	return n
}

// listen opens addr, which the user has given as name.
func listen(ctx context.Context, name, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %w (hint: something else runs there; name another address with %s)", name, err, name)
	case err != nil:
		return nil, fmt.Errorf("%s: %w (hint: an address looks like 127.0.0.1:8080 or :8080)", name, err)
	}
	return l, nil
}

// closeListeners is for the ways out on which nobody has served them.
func (s *server) closeListeners() {
	for _, l := range []net.Listener{s.public, s.admin, s.challenges} {
		if l != nil {
			l.Close()
		}
	}
}

// run serves until ctx is done, and then stops in the order that lets nobody
// down: readiness goes first, then, after the delay, the documents and the
// signers, and last the address that tells how it went.
func (s *server) run(ctx context.Context) error {
	// Whatever fails ends the rest.
	g, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, endServing := context.WithCancel(failed)
	adminServing, endAdmin := context.WithCancel(failed)
	defer endServing()
	defer endAdmin()

	fatal := make(chan error, 1)
	s.fleet.ctx = serving
	s.fleet.failed = func(err error) {
		s.stopping.Store(true)
		select {
		case fatal <- err:
		default: // one is enough
		}
	}
	if s.reload != nil {
		s.reload.first()
		s.metrics.MustRegister(s.reload.metric())
	} else {
		s.apply(s.cfg.Issuers)
	}
	s.metrics.MustRegister(s.fleet.metrics()...)
	g.Go(func() error {
		return web.Serve(adminServing, s.admin, web.Admin(s.checks, s.metrics, s.log), nil, s.log)
	})
	g.Go(func() error {
		parts, serving := errgroup.WithContext(serving)
		parts.Go(func() error {
			select {
			case err := <-fatal:
				return err
			case <-serving.Done():
				return nil
			}
		})
		s.startParts(parts, serving)
		err := parts.Wait()
		endServing() // of the sources
		s.fleet.wait()
		endAdmin()
		return err
	})
	g.Go(func() error {
		select {
		case <-failed.Done():
			return nil
		case <-ctx.Done():
		}
		s.stopping.Store(true)
		s.log.Info("stopping: not ready any more; a second signal stops at once", "delay", time.Duration(s.cfg.ShutdownDelay))
		select {
		case <-failed.Done():
		case <-time.After(time.Duration(s.cfg.ShutdownDelay)):
		}
		endServing()
		return nil
	})
	err := g.Wait()
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}

// startParts runs what serves relying parties, and what keeps it up to date.
func (s *server) startParts(parts *errgroup.Group, serving context.Context) {
	// A challenge that is under way needs the addresses until it has ended.
	answering, endAnswering := context.WithCancel(context.WithoutCancel(serving))
	parts.Go(func() error {
		<-serving.Done()
		if s.acme != nil {
			s.acme.Stop()
		}
		endAnswering()
		return nil
	})
	var secure *tls.Config
	switch {
	case s.cert != nil:
		secure = s.cert.TLSConfig()
		parts.Go(func() error { s.cert.Watch(serving, s.log); return nil })
	case s.acme != nil:
		secure = s.acme.TLSConfig()
	}
	if s.challenges != nil {
		h := s.acme.Challenges(http.NotFoundHandler())
		parts.Go(func() error { return web.Serve(answering, s.challenges, h, nil, s.log) })
	}
	if s.reload != nil {
		parts.Go(func() error { s.reload.run(serving); return nil })
	}
	parts.Go(func() error {
		s.fleet.settle(serving)
		return web.Serve(answering, s.public, web.Public(s.fleet.site, s.metrics, s.log), secure, s.log)
	})
}

// apply makes issuers those that are served, and that have certificates.
func (s *server) apply(issuers []config.Issuer) {
	s.fleet.apply(issuers)
	tuneGC(len(issuers))
	if s.acme == nil {
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
	s.acme.Manage(s.fleet.ctx, slices.Compact(hosts))
}

// checks are what /readyz looks at, for one issuer or, if that is "", for all.
func (s *server) checks(issuer string) []web.Check {
	checks := []web.Check{{Name: "shutdown", Run: func() (string, error) {
		if s.stopping.Load() {
			return "", errors.New("the process is stopping")
		}
		return "running", nil
	}}}
	checks = append(checks, s.fleet.checks(issuer, s.cfg.Readiness)...)
	if s.reload != nil {
		checks = append(checks, s.reload.check(issuer == "" && s.cfg.Readiness == "all"))
	}
	if s.cert != nil {
		checks = append(checks, certificateCheck(s.cert.Status))
	}
	if s.acme != nil {
		checks = append(checks, certificateCheck(s.acme.Status))
	}
	return checks
}

// certificateCheck is advisory: a relying party that cannot connect finds the
// other replicas no better.
func certificateCheck(status func() (string, error)) web.Check {
	return web.Check{Name: "certificate", Advisory: true, Run: status}
}
