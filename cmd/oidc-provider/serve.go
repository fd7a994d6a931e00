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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/internal/config"
	"oidc-provider/internal/signer"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

type serveOptions struct {
	config                      string
	store                       store.Config
	policy                      policyFlags
	witnesses                   witnessFlags
	rollbackState               string
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
start; one that is not leaves it as it is.

With --config all of this stands in a file instead, for any number of issuers,
and for issuers whose keys belong to somebody else: a kube-apiserver that signs
by itself, files, the key set of another issuer. The file is watched; see
` + "`oidc-provider config example`" + `.`,
		Example: `  # On this machine, with keys of its own
  oidc-provider serve

  # For a cluster: kube-apiserver has --service-account-signing-endpoint=/run/oidc-provider/signer.sock
  oidc-provider keys init --store /var/lib/oidc-provider --issuer https://oidc.example.com
  oidc-provider serve --store /var/lib/oidc-provider --issuer https://oidc.example.com \
    --listen :443 --tls-cert tls.crt --tls-key tls.key --signer-socket /run/oidc-provider/signer.sock

  # One of several, on the etcd of the control plane, with sealed keys
  oidc-provider serve --store etcd://127.0.0.1:2379/oidc-provider --etcd-ca-file /etc/kubernetes/pki/etcd/ca.crt \
    --etcd-cert-file /etc/kubernetes/pki/apiserver-etcd-client.crt --etcd-key-file /etc/kubernetes/pki/apiserver-etcd-client.key \
    --age-identity /etc/oidc-provider/identity.txt --issuer https://oidc.example.com --signer-socket /run/oidc-provider/signer.sock

  # Many issuers, of any kind
  oidc-provider serve --config /etc/oidc-provider/config.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.config, "config", "", "file with all settings, for one issuer or many, instead of the other flags")
	addStoreFlags(flags, &o.store)
	o.policy.add(flags)
	o.witnesses.add(flags)
	flags.StringVar(&o.rollbackState, "rollback-state", "", "directory of its own in which this server keeps what it has seen of the ring, to tell an old backup by after a restart")
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
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	cmd.SetContext(ctx)

	s := &server{log: log, metrics: newMetrics()}
	s.fleet = &fleet{
		log: log, once: o.config == "",
		sockets: signer.NewSockets(log, s.metrics),
		opened:  func(*rotation.Ring, bool) {},
	}
	if o.config == "" {
		err = o.fromFlags(cmd, s)
	} else {
		err = o.fromFile(cmd, s)
	}
	if err != nil {
		return err
	}
	// Addresses before keys: a port that is taken should change nothing.
	defer s.closeListeners()
	if err := s.bind(ctx); err != nil {
		return err
	}
	if o.config != "" {
		log.Info("serving", "config", o.config, "listen", s.public.Addr().String(), "admin", s.admin.Addr().String())
		if o.logFormat == "text" {
			welcomeAll(cmd, o.config, s)
		}
	}
	return s.run(ctx)
}

// fromFlags prepares s for the one issuer that the flags describe.
func (o *serveOptions) fromFlags(cmd *cobra.Command, s *server) error {
	issuer, policy, err := o.check(cmd, s.log)
	if err != nil {
		return err
	}
	opened, err := store.Open(o.store)
	if err != nil {
		return err
	}
	opened.Close()                                            // it is opened again when everything else is ready
	s.fleet.site = web.NewSite(web.SiteConfig{AnyHost: true}) // there is but one issuer
	m := &config.Managed{
		Config: o.store, Create: !cmd.Flags().Changed("store"), PublishOnly: o.publishOnly,
		SignerSocket: o.signerSocket, RefreshHint: config.Duration(o.refreshHint), Policy: policy,
		Witnesses: o.witnesses.witnesses, WitnessCAFile: o.witnesses.caFile, RollbackState: o.rollbackState,
	}
	s.cfg = &config.Config{
		Listen: o.listen, AdminListen: o.adminListen, ShutdownDelay: config.Duration(o.shutdownDelay),
		Issuers: []config.Issuer{{
			Issuer: issuer.String(), Managed: m,
			JWKSMaxAge: config.Duration(o.jwksMaxAge), DiscoveryMaxAge: config.Duration(o.discoveryMaxAge),
		}},
	}
	if o.tlsCert != "" {
		s.cfg.TLS = &config.TLS{CertFile: o.tlsCert, KeyFile: o.tlsKey}
	}
	s.fleet.opened = func(ring *rotation.Ring, made bool) {
		s.log.Info("serving", "issuer", issuer.String(), "listen", s.public.Addr().String(), "admin", s.admin.Addr().String(),
			"signer", o.signerSocket, "store", o.store.Store, "ring", ring)
		if o.logFormat == "text" {
			o.welcome(cmd, issuer, s.admin.Addr().String(), ring, made)
		}
	}
	return nil
}

// besideConfig are the flags that say nothing that stands in a file.
var besideConfig = []string{"config", "log-format", "log-level", "help"}

// fromFile prepares s for the issuers in the configuration file.
func (o *serveOptions) fromFile(cmd *cobra.Command, s *server) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains(besideConfig, f.Name) && err == nil {
			err = fmt.Errorf("--%s and --config exclude each other (hint: set it in %s; `oidc-provider config example` shows where)", f.Name, o.config)
		}
	})
	if err != nil {
		return err
	}
	data, err := config.Read(o.config)
	if err != nil {
		return err
	}
	if s.cfg, err = config.Parse(o.config, data); err != nil {
		return err
	}
	s.fleet.stateDir, s.fleet.site = s.cfg.StateDir, web.NewSite(web.SiteConfig{AnyHost: s.cfg.AnyHost})
	s.reload = newReloader(o.config, data, s.cfg, s.log)
	s.reload.apply = s.apply
	return nil
}

// check refuses flags that make no sense before anything is touched.
func (o *serveOptions) check(cmd *cobra.Command, log *slog.Logger) (discovery.Issuer, config.Policy, error) {
	issuer, err := discovery.ParseIssuer(o.issuer)
	if err != nil {
		return issuer, config.Policy{}, err
	}
	policy, err := o.policy.policy(cmd.Flags())
	if err != nil {
		return issuer, policy, err
	}
	switch {
	case o.publishOnly && o.signerSocket != "":
		return issuer, policy, errors.New("--publish-only and --signer-socket exclude each other")
	case o.publishOnly && policy != config.Policy{}:
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

// tuneGC makes room for requests: with few issuers the live heap is below a
// megabyte, and collecting garbage less often costs some more. With many it
// would cost as much again as all that they need.
func tuneGC(issuers int) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := 400
	if issuers > 100 {
		percent = 50
	}
	debug.SetGCPercent(percent)
}

func newMetrics() *prometheus.Registry {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	return metrics
}
