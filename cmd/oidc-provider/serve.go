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
	"oidc-provider/kube"
	"oidc-provider/rotation"
	"oidc-provider/signer"
	"oidc-provider/store"
	"oidc-provider/store/secret"
	"oidc-provider/web"
)

type serveOptions struct {
	store                       storeFlags
	policy                      policyFlags
	peers                       peerFlags
	remember                    string
	publishOnly                 bool
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

Any number of servers may share one store, each as the signer of its own API
server: the ring tells all of them which key signs when. A store in etcd or in a
Secret that cannot be reached is waited for. With --publish-only a server shows
the documents, and needs neither what opens sealed keys nor write access.

The policy (schedule, algorithm, publish-ahead, max-token-lifetime, clock-skew)
stands beside the keys. A flag for it that is given changes it there, once, at
start; one that is not leaves it as it is.`,
		Example: `  # On this machine, with keys of its own
  oidc-provider serve

  # For a cluster: kube-apiserver has --service-account-signing-endpoint=/run/oidc-provider/signer.sock
  oidc-provider keys init --store /var/lib/oidc-provider --issuer https://oidc.example.com
  oidc-provider serve --store /var/lib/oidc-provider --issuer https://oidc.example.com \
    --listen :443 --tls-cert tls.crt --tls-key tls.key --signer-socket /run/oidc-provider/signer.sock

  # One of several, on the etcd of the control plane, with sealed keys
  oidc-provider serve --store etcd://127.0.0.1:2379/oidc-provider --etcd-cafile /etc/kubernetes/pki/etcd/ca.crt \
    --etcd-certfile /etc/kubernetes/pki/apiserver-etcd-client.crt --etcd-keyfile /etc/kubernetes/pki/apiserver-etcd-client.key \
    --age-identity /etc/oidc-provider/identity.txt --issuer https://oidc.example.com --signer-socket /run/oidc-provider/signer.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	o.store.add(flags)
	o.policy.add(flags)
	o.peers.add(flags)
	flags.StringVar(&o.remember, "remember", "", "directory of its own in which this server keeps what it has seen of the ring, to tell an old backup by after a restart")
	flags.BoolVar(&o.publishOnly, "publish-only", false, "show the documents, and neither sign nor rotate")
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
	place, err := o.store.open()
	if err != nil {
		return err
	}
	// Addresses before keys: a port that is taken should change nothing.
	s := &server{
		log: log, delay: o.shutdownDelay, metrics: newMetrics(), tried: make(chan struct{}),
		docs: web.NewDocuments(web.DocumentsConfig{Issuer: issuer, JWKSMaxAge: o.jwksMaxAge, DiscoveryMaxAge: o.discoveryMaxAge}),
	}
	defer s.closeListeners()
	if err := s.bind(ctx, o); err != nil {
		return err
	}
	return s.run(ctx, o.refreshHint, func(ctx context.Context) (*rotation.Rotator, error) {
		rotator, err := o.open(ctx, cmd, place, s, issuer, policy)
		if err != nil {
			err = fmt.Errorf("store %s: %w", o.store.spec, err)
		}
		return rotator, err
	})
}

// open reads the ring, and makes it when it is this server's to make. Nothing is
// written before everything that could refuse the ring has seen it.
func (o *serveOptions) open(ctx context.Context, cmd *cobra.Command, place place, s *server, issuer discovery.Issuer, policy rotation.Policy) (*rotation.Rotator, error) {
	if err := o.checkSecret(ctx, place, issuer, s.log); err != nil {
		return nil, err
	}
	// As long as the store is down, nobody else is asked.
	if _, err := place.read(ctx); err != nil && !errors.Is(err, rotation.ErrEmpty) {
		return nil, err
	}
	seen, memory, err := o.seen(ctx, issuer, s.log)
	if err != nil {
		return nil, err
	}
	// What others have seen was in the ring before: it is read after them.
	ring, made, err := o.findRing(ctx, cmd, place, issuer, policy)
	if err != nil {
		return nil, err
	}
	if err := check(ring, seen, func(w string) { s.log.Warn(w) }); err != nil {
		return nil, fmt.Errorf("%w; --peer none asks nobody", err)
	}
	if made {
		s.log.Info("made the first keys of the issuer", "store", o.store.spec, "issuer", issuer.String())
		if err := place.create(ctx, ring); err != nil {
			return nil, err
		}
	}
	if !o.publishOnly {
		if err := o.checkOpens(ctx, place, ring); err != nil {
			return nil, err
		}
		if err := bringPolicy(ctx, place, issuer, policy, o.signerSocket != "", s.log); err != nil {
			return nil, err
		}
	}
	rotator, err := rotation.Open(ctx, rotation.Config{
		Store: place.Store, Sealer: place.sealer, PublishOnly: o.publishOnly, Issuer: issuer.String(),
		Seen: seen, Memory: memory, Publishers: []rotation.Publisher{s.docs}, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	ring = rotator.View().Ring()
	o.warnOfRing(place, ring, s.log)
	s.log.Info("serving", "issuer", issuer.String(), "listen", s.public.Addr().String(), "admin", s.admin.Addr().String(),
		"signer", o.signerSocket, "store", o.store.spec, "ring", ring)
	if o.logFormat == "text" {
		o.welcome(cmd, issuer, s.admin.Addr().String(), ring, made)
	}
	return rotator, nil
}

// seen is what peers show, and what this server remembers in memory, if it is
// to remember.
func (o *serveOptions) seen(ctx context.Context, issuer discovery.Issuer, log *slog.Logger) (seen []rotation.Seen, memory rotation.Store, err error) {
	level := slog.LevelInfo // the default peer may be what is started here
	if len(o.peers.peers) > 0 {
		level = slog.LevelWarn
	}
	seen, err = o.peers.ask(ctx, issuer.String(), func(peer string, err error) {
		log.Log(ctx, level, "the ring is not compared with what a peer shows", "peer", peer, "err", err)
	})
	if err != nil || o.remember == "" {
		return seen, nil, err
	}
	memory = store.NewFile(o.remember)
	recalled, err := rotation.Recall(ctx, memory)
	if err != nil {
		return nil, nil, err
	}
	if recalled != nil {
		seen = append(seen, *recalled)
	}
	return seen, memory, nil
}

// checkOpens refuses to start where no token could be signed: a wrong identity
// should be noticed before anything is changed. A plugin that is away may come.
func (o *serveOptions) checkOpens(ctx context.Context, place place, ring *rotation.Ring) error {
	open, err := ring.Unseal(ctx, place.sealer)
	if err == nil || errors.Is(err, rotation.ErrUnavailable) || open.Active(open.At(time.Now())).SigningKey() != nil {
		return nil
	}
	return err
}

// checkSecret refuses to sign for an API server that keeps the keys: once both
// are down, neither comes up without the other.
func (o *serveOptions) checkSecret(ctx context.Context, place place, issuer discovery.Issuer, log *slog.Logger) error {
	s, ok := place.Store.(*secret.Store)
	if !ok || o.signerSocket == "" {
		return nil
	}
	cfg, err := kube.Config(o.store.via.Kubeconfig, o.store.via.Context)
	if err != nil {
		return err
	}
	theirs := secret.TokenIssuer(cfg)
	if theirs != issuer.String() { // it may be a person's
		switch theirs, err = s.Issuer(ctx); {
		case errors.Is(err, rotation.ErrUnavailable):
			return fmt.Errorf("%w; if it waits for this server to sign, neither will ever come up: keep the ring in etcd or in files", err)
		case err != nil:
			log.Warn("cannot tell whether the API server with the ring is one that this server signs for: it must not be", "err", err)
		}
	}
	if theirs == issuer.String() {
		return fmt.Errorf("the API server that keeps this Secret is one of issuer %s, for which this server signs: it could not start without its signer, nor the signer without it (hint: keep the ring in etcd, in files or in another cluster; --publish-only may read it from here)", theirs)
	}
	return nil
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
	case o.publishOnly && o.signerSocket != "":
		return issuer, policy, errors.New("--publish-only and --signer-socket exclude each other")
	case o.publishOnly && policy != rotation.Policy{}:
		return issuer, policy, errors.New("the policy is set by servers that rotate, not with --publish-only")
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

// findRing reads the ring, and makes one, which is not written yet, only where
// nobody has named the store: in the default place.
func (o *serveOptions) findRing(ctx context.Context, cmd *cobra.Command, place place, issuer discovery.Issuer, policy rotation.Policy) (ring *rotation.Ring, made bool, err error) {
	ring, err = place.read(ctx)
	if err == nil {
		return ring, false, ring.CheckIssuer(issuer.String())
	}
	switch {
	case !errors.Is(err, rotation.ErrEmpty):
		return nil, false, err
	case o.publishOnly:
		return nil, false, fmt.Errorf("%w; --publish-only makes none", err)
	case cmd.Flags().Changed("store"):
		return nil, false, fmt.Errorf("it holds no ring, and none is made in a place that was named (hint: if it is really new, run `%s keys init --store %s --issuer %s`)",
			program(), o.store.spec, issuer)
	}
	ring, err = rotation.New(issuer.String(), policy, time.Now(), rotation.GenerateKey)
	return ring, true, err
}

// bringPolicy writes the policy that was asked for into the ring. A store that
// takes no writes does not keep the server from publishing and signing under
// the policy that stands there.
func bringPolicy(ctx context.Context, place place, issuer discovery.Issuer, policy rotation.Policy, signs bool, log *slog.Logger) error {
	var before, after rotation.Policy
	var refused error
	_, err := place.update(ctx, func(r *rotation.Ring) (*rotation.Ring, error) {
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
	case errors.Is(err, rotation.ErrUnavailable) && before == rotation.Policy{}:
		return err // the ring was not even read
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

func (o *serveOptions) warnOfRing(place place, r *rotation.Ring, log *slog.Logger) {
	if w := place.plainWarning(r); w != "" {
		log.Warn(w)
	}
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
