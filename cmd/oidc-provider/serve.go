package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"oidc-provider/discovery"
	"oidc-provider/rotation"
	"oidc-provider/signer"
	"oidc-provider/web"
)

type serveOptions struct {
	store                       storeFlag
	policy                      policyFlags
	issuer                      string
	listen, adminListen         string
	signerSocket                string
	jwksMaxAge, discoveryMaxAge time.Duration
	refreshHint                 time.Duration
	tlsCert, tlsKey             string
	logFormat, logLevel         string
	shutdownDelay               time.Duration
}

func newServeCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Publish the documents, rotate the keys and sign for kube-apiserver",
		Long: `Publish the documents of an issuer, rotate its keys, and, with --signer-socket,
sign tokens for kube-apiserver (1.34 or later, as its external JWT signer).

With no flag at all it makes keys of its own in the default directory. With
--store named, an empty store is an error: a directory that is not mounted must
not turn into new keys.

The policy (schedule, algorithm, publish-ahead, max-token-lifetime, clock-skew)
stands beside the keys. A flag for it that is given changes it there, once, at
start; one that is not leaves it as it is.`,
		Example: `  # On this machine, with keys of its own
  oidc-provider serve

  # For a cluster: kube-apiserver has --service-account-signing-endpoint=/run/oidc-provider/signer.sock
  oidc-provider keys init --store /var/lib/oidc-provider --issuer https://oidc.example.com
  oidc-provider serve --store /var/lib/oidc-provider --issuer https://oidc.example.com \
    --listen :443 --tls-cert tls.crt --tls-key tls.key --signer-socket /run/oidc-provider/signer.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	o.store.add(flags)
	o.policy.add(flags)
	flags.StringVar(&o.issuer, "issuer", defaultIssuer, "the issuer's URL, as it stands in the iss claim")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address for the documents")
	flags.StringVar(&o.adminListen, "admin-listen", "127.0.0.1:8081", "address for /livez, /readyz and /metrics")
	flags.StringVar(&o.signerSocket, "signer-socket", "", "Unix socket to sign for kube-apiserver on: a path, or @name for an abstract one")
	flags.DurationVar(&o.jwksMaxAge, "jwks-max-age", 5*time.Minute, "how long relying parties may cache the key set")
	flags.DurationVar(&o.discoveryMaxAge, "discovery-max-age", time.Hour, "how long relying parties may cache the configuration")
	flags.DurationVar(&o.refreshHint, "refresh-hint", time.Minute, "how often kube-apiserver should fetch the keys")
	flags.StringVar(&o.tlsCert, "tls-cert", "", "PEM file with the certificate chain for --listen; picked up when it changes")
	flags.StringVar(&o.tlsKey, "tls-key", "", "PEM file with the certificate's key")
	flags.StringVar(&o.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.DurationVar(&o.shutdownDelay, "shutdown-delay", 3*time.Second, "how long to go on serving after /readyz has turned, so that load balancers notice")
	return cmd
}

func (o *serveOptions) run(cmd *cobra.Command) error {
	log, err := newLogger(cmd.ErrOrStderr(), o.logFormat, o.logLevel)
	if err != nil {
		return err
	}
	issuer, policy, err := o.check(cmd, log)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	cmd.SetContext(ctx)

	// The live heap is below a megabyte. Collecting garbage less often costs
	// some more and makes room for requests.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	// Addresses before keys: a port that is taken should change nothing.
	s := &server{log: log, delay: o.shutdownDelay, metrics: newMetrics()}
	defer s.closeListeners()
	if err := s.bind(ctx, o); err != nil {
		return err
	}
	store, created, err := o.openStore(cmd, issuer, policy, log)
	if err != nil {
		return err
	}
	if err := bringPolicy(ctx, store, issuer, policy, o.signerSocket != "", log); err != nil {
		return err
	}
	s.docs = web.NewDocuments(web.DocumentsConfig{Issuer: issuer, JWKSMaxAge: o.jwksMaxAge, DiscoveryMaxAge: o.discoveryMaxAge})
	s.rotator, err = rotation.Open(ctx, rotation.Config{
		Store: store, Issuer: issuer.String(), Publishers: []rotation.Publisher{s.docs}, Log: log,
	})
	if err != nil {
		return fmt.Errorf("store %s: %w", o.store.spec, err)
	}
	ring := s.rotator.View().Ring()
	o.warnOfRing(ring, log)
	log.Info("serving", "issuer", issuer.String(), "listen", s.public.Addr().String(), "admin", s.admin.Addr().String(),
		"signer", o.signerSocket, "store", o.store.spec, "ring", ring)
	if o.logFormat == "text" {
		o.welcome(cmd.OutOrStdout(), issuer, s.admin.Addr().String(), ring, created)
	}
	return s.run(ctx, o.refreshHint)
}

// check refuses flags that make no sense before anything is touched.
func (o *serveOptions) check(cmd *cobra.Command, log *slog.Logger) (discovery.Issuer, rotation.Policy, error) {
	issuer, err := discovery.ParseIssuer(o.issuer)
	if err != nil {
		return issuer, rotation.Policy{}, err
	}
	policy, err := o.policy.policy(cmd.Flags())
	if err != nil {
		return issuer, policy, err
	}
	switch {
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return issuer, policy, errors.New("--tls-cert and --tls-key go together")
	case o.jwksMaxAge < time.Second || o.discoveryMaxAge < time.Second || o.refreshHint < time.Second:
		return issuer, policy, errors.New("--jwks-max-age, --discovery-max-age and --refresh-hint must be at least 1s: they are whole seconds where they are used")
	case o.shutdownDelay < 0:
		return issuer, policy, errors.New("--shutdown-delay must not be negative")
	}
	if strings.HasPrefix(o.signerSocket, "@") {
		log.Warn("an abstract socket has no mode: everybody in this network namespace can have tokens signed", "socket", o.signerSocket)
	}
	if u := issuer.URL(); u.Scheme == "http" && !cmd.Flags().Changed("issuer") && cmd.Flags().Changed("listen") {
		if _, port, err := net.SplitHostPort(o.listen); err == nil && port != u.Port() {
			log.Warn("the documents are served on another port than the issuer names (hint: set --issuer)", "issuer", o.issuer, "listen", o.listen)
		}
	}
	if cmd.Flags().Changed("issuer") { // the default's port is for this machine only
		for _, w := range issuer.Warnings() {
			log.Warn(w)
		}
	}
	return issuer, policy, nil
}

// openStore opens the store, and makes keys in it only where nobody has named
// it: in the default place.
func (o *serveOptions) openStore(cmd *cobra.Command, issuer discovery.Issuer, policy rotation.Policy, log *slog.Logger) (rotation.Store, bool, error) {
	store, err := o.store.open()
	if err != nil {
		return nil, false, err
	}
	_, err = rotation.Read(cmd.Context(), store)
	switch {
	case err == nil:
		return store, false, nil
	case !errors.Is(err, rotation.ErrEmpty):
		return nil, false, fmt.Errorf("store %s: %w", o.store.spec, err)
	case cmd.Flags().Changed("store"):
		return nil, false, fmt.Errorf("store %s holds no ring, and none is made in a place that was named (hint: if it is really new, run `%s keys init --store %s --issuer %s`)",
			o.store.spec, program(), o.store.spec, issuer)
	}
	r, err := rotation.New(issuer.String(), policy, time.Now(), rotation.GenerateKey)
	if err != nil {
		return nil, false, err
	}
	log.Info("made the first keys of the issuer", "store", o.store.spec, "issuer", issuer.String())
	return store, true, rotation.Create(cmd.Context(), store, nil, r)
}

// bringPolicy writes the policy that was asked for into the ring. A store that
// takes no writes does not keep the server from publishing and signing under
// the policy that stands there.
func bringPolicy(ctx context.Context, store rotation.Store, issuer discovery.Issuer, policy rotation.Policy, signs bool, log *slog.Logger) error {
	var before, after rotation.Policy
	var refused error
	_, err := rotation.Update(ctx, store, nil, func(r *rotation.Ring) (*rotation.Ring, error) {
		if refused = r.CheckIssuer(issuer.String()); refused != nil {
			return r, refused
		}
		next, err := rotation.SetPolicy(r, policy, time.Now())
		if err != nil {
			return r, err
		}
		before, after = r.Policy, next.Policy
		if lifetime := time.Duration(after.MaxTokenLifetime); signs && lifetime < signer.MinTokenLifetime {
			refused = fmt.Errorf("max-token-lifetime is %v, and kube-apiserver wants at least %v from its signer (hint: add --max-token-lifetime %v)", lifetime, signer.MinTokenLifetime, signer.MinTokenLifetime)
			return r, refused
		}
		return next, nil
	})
	switch {
	case refused != nil:
		return refused
	case err != nil:
		log.Error("the policy could not be written; the one in the ring stays in force", "err", err)
	case before != after:
		log.Info("changed the policy of the ring", "from", before, "to", after)
		if signs && after.MaxTokenLifetime < before.MaxTokenLifetime {
			log.Warn("max-token-lifetime is shorter now: restart every kube-apiserver, which asks for it only when it starts, or its requests for longer tokens are refused", "maxTokenLifetime", after.MaxTokenLifetime)
		}
		if after.PublishAhead < before.PublishAhead {
			log.Info("publish-ahead is shorter now, from the key after the next: caches may hold what was published under the longer one", "publishAhead", after.PublishAhead)
		}
		if before.Algorithm != after.Algorithm || before.RSABits != after.RSABits {
			log.Info("the next key is published already: new keys after it follow the new policy", "algorithm", after.Algorithm, "rsaBits", after.RSABits)
		}
	}
	return nil
}

func (o *serveOptions) warnOfRing(r *rotation.Ring, log *slog.Logger) {
	for _, w := range r.Policy.Warnings() {
		log.Warn(w)
	}
	if limit := r.Policy.MaxAgeLimit(); o.jwksMaxAge > limit || o.discoveryMaxAge > limit {
		log.Warn("max-age is lowered: caches must expire before a key signs that they do not hold", "limit", limit, "publishAhead", r.Policy.PublishAhead, "clockSkew", r.Policy.ClockSkew)
	}
}

func newLogger(w interface{ Write([]byte) (int, error) }, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil || strings.ContainsAny(level, "+-") {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	switch opts := (&slog.HandlerOptions{Level: l}); format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", format)
}

func newMetrics() *prometheus.Registry {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	return metrics
}
