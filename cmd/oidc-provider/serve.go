package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/internal/config"
	"oidc-provider/internal/fleet"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// serveOptions are the flags of serve. Without --config they fill the same structs
// as a configuration file.
type serveOptions struct {
	file      string
	config    config.Config
	issuer    config.Issuer
	managed   config.Managed
	tls       config.TLS
	policy    policyFlags
	logFormat string
	logLevel  string

	trustClock bool
}

func newServeCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Publish the documents, rotate the keys and sign for kube-apiserver",
		Long: `Publish the documents of an issuer, rotate its keys, and, with --signer-socket,
sign tokens for kube-apiserver 1.34 or later, as its external JWT signer.

Without any flag, serve creates keys in ./oidc-provider-keys. If --store is given,
an empty store is an error: a directory that is not mounted must not turn into new
keys.

Any number of servers may share a store, each as the signer of its own API server.
The ring in the store says which key signs when. If a store in etcd or in a Secret
is unreachable, serve waits for it. With --publish-only a server only publishes the
documents: it needs no identity for sealed keys and no write access.

The policy (schedule, algorithm, publish-ahead, max-token-lifetime, clock-skew) is
stored with the keys. A flag changes it there once, at the start; without the flag
it stays the same.

With --config, a file contains all settings instead, for any number of issuers,
also for those with third-party keys: of a kube-apiserver that signs itself, in
files, or in the key set of another issuer. serve watches the file; see
` + "`oidc-provider config example`" + `.`,
		Example: `  # On this machine, with new keys
  oidc-provider serve

  # For a cluster: kube-apiserver has --service-account-signing-endpoint=/run/oidc-provider/signer.sock
  oidc-provider keys init --store /var/lib/oidc-provider --issuer https://oidc.example.com
  oidc-provider serve --store /var/lib/oidc-provider --issuer https://oidc.example.com \
    --listen :443 --tls-cert tls.crt --tls-key tls.key --signer-socket /run/oidc-provider/signer.sock

  # One of several servers, on the etcd of the control plane, with sealed keys
  oidc-provider serve --store etcd://127.0.0.1:2379/oidc-provider \
    --etcd-ca-file /etc/kubernetes/pki/etcd/ca.crt \
    --etcd-cert-file /etc/kubernetes/pki/apiserver-etcd-client.crt \
    --etcd-key-file /etc/kubernetes/pki/apiserver-etcd-client.key \
    --age-identity /etc/oidc-provider/identity.txt \
    --issuer https://oidc.example.com --signer-socket /run/oidc-provider/signer.sock

  # Many issuers, of any kind
  oidc-provider serve --config /etc/oidc-provider/config.yaml`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.add(cmd)
	return cmd
}

func (o *serveOptions) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	duration := func(value *config.Duration, name string, standard time.Duration, usage string) {
		flags.DurationVar((*time.Duration)(value), name, standard, usage)
	}
	flags.StringVar(&o.file, "config", "", "`FILE` with all settings, for one issuer or many, instead of the other flags")
	addStoreFlags(flags, &o.managed.Config)
	o.policy.add(cmd)
	addWitnessFlags(flags, &o.managed.Witnesses, &o.managed.WitnessCAFile)
	flags.StringVar(&o.managed.RollbackState, "rollback-state", "",
		"`DIR` for what this server has seen of the ring, to reject an old backup after a restart")
	addTrustClockFlag(flags, &o.trustClock)
	flags.BoolVar(&o.managed.PublishOnly, "publish-only", false, "publish the documents, and neither sign nor rotate")
	flags.StringVar(&o.issuer.Issuer, "issuer", defaultIssuer, "`URL` of the issuer, as in the iss claim")
	flags.StringVar(&o.config.Listen, "listen", config.DefaultListen, "`ADDRESS` for the documents")
	flags.StringVar(&o.config.AdminListen, "admin-listen", config.DefaultAdminListen,
		"`ADDRESS` for /livez, /readyz and /metrics")
	flags.IntVar(&o.config.MaxConnections, "max-connections", 0,
		"`NUMBER` of connections to --listen at a time; default 4096, or what memory and file descriptors allow")
	flags.IntVar(&o.config.MaxConnectionsPerAddress, "max-connections-per-address", 0,
		"`NUMBER` of them that one client address may have; default three quarters")
	flags.StringVar(&o.managed.SignerSocket, "signer-socket", "",
		"`FILE` of the Unix socket to sign for kube-apiserver on, or @name for an abstract socket")
	flags.UintSliceVar(&o.managed.SignerUIDs, "signer-uid", nil,
		"`UID` of a user who may connect to that socket, beside root and the one this runs as; may be given several times")
	flags.Lookup("signer-uid").DefValue = "" // not []
	flags.StringVar(&o.managed.SignerSocketMode, "signer-socket-mode", "",
		"`MODE` of that file; default 0600")
	flags.StringVar(&o.managed.SignerSocketGroup, "signer-socket-group", "",
		"`GROUP` of that file, a name or a number")
	duration(&o.issuer.JWKSMaxAge, "jwks-max-age", config.DefaultJWKSMaxAge,
		"`DURATION` for which relying parties may cache the key set")
	duration(&o.issuer.DiscoveryMaxAge, "discovery-max-age", config.DefaultDiscoveryMaxAge,
		"`DURATION` for which relying parties may cache the discovery document")
	duration(&o.managed.RefreshHint, "refresh-hint", config.DefaultRefreshHint,
		"`DURATION` after which kube-apiserver should fetch the keys again")
	flags.StringVar(&o.tls.CertFile, "tls-cert", "",
		"PEM `FILE` with the certificate chain for --listen; read again when it changes")
	flags.StringVar(&o.tls.KeyFile, "tls-key", "", "PEM `FILE` with the key of the certificate")
	flags.StringVar(&o.logFormat, "log-format", "text", "`FORMAT` of the log: text or json")
	flags.StringVar(&o.logLevel, "log-level", "info", "`LEVEL` of the log: debug, info, warn or error")
	duration(&o.config.ShutdownDelay, "shutdown-delay", config.DefaultShutdownDelay,
		"`DURATION` of serving after /readyz fails, so that load balancers notice")
}

func (o *serveOptions) run(cmd *cobra.Command) error {
	settingName := flagName
	if o.file != "" {
		settingName = hint.Field
	}
	log, err := newLogger(cmd.ErrOrStderr(), o.logFormat, o.logLevel, settingName)
	if err != nil {
		return err
	}
	if err := forbidDumps(); err != nil {
		log.Warn("a crash may write private keys to a core dump", "err", err)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	cfg := fleet.Config{SettingName: settingName, TrustClock: o.trustClock, Metrics: newMetrics(), Log: log}
	if o.file == "" {
		err = o.fromFlags(ctx, cmd, &cfg)
	} else {
		err = o.fromFile(cmd, &cfg)
	}
	if err != nil {
		return err
	}
	var f *fleet.Fleet
	cfg.Opened = func(ring *rotation.Ring, created bool) {
		log.Info("serving", "issuer", o.issuer.Issuer, "listen", f.PublicAddr().String(), "admin", f.AdminAddr().String(),
			"signer", o.managed.SignerSocket, "store", o.managed.Store, "ring", ring)
		if o.logFormat == "text" {
			o.welcome(cmd, f, ring, created)
		}
	}
	// Addresses before keys: an address that is in use should change nothing.
	if f, err = fleet.New(ctx, cfg); err != nil {
		return err
	}
	if o.file != "" {
		log.Info("serving", "config", o.file, "listen", f.PublicAddr().String(), "admin", f.AdminAddr().String())
		if o.logFormat == "text" {
			o.welcomeAll(cmd, f, cfg.Settings)
		}
	}
	return f.Run(ctx)
}

// fromFlags completes cfg for the one issuer that the flags describe.
func (o *serveOptions) fromFlags(ctx context.Context, cmd *cobra.Command, cfg *fleet.Config) (err error) {
	if err := o.check(cmd, cfg.Log); err != nil {
		return err
	}
	if err := tryOpen(ctx, o.managed.Config); err != nil {
		return err
	}
	o.managed.Create = !cmd.Flags().Changed("store")
	if o.managed.Create && !cmd.Flags().Changed("issuer") {
		cfg.TrustClock = true // an issuer for this machine alone
	}
	o.issuer.Managed = &o.managed
	o.config.Issuers = []config.Issuer{o.issuer}
	if o.tls.CertFile != "" {
		o.config.TLS = &o.tls
	}
	cfg.Settings = &o.config
	return nil
}

// tryOpen opens a store, and closes it: it is opened again when everything else is
// ready. Opening reads files, one of which may be a pipe that another program has
// yet to write to, so it ends with ctx.
func tryOpen(ctx context.Context, cfg store.Config) error {
	done := make(chan error, 1)
	go func() {
		opened, err := store.Open(cfg)
		if err == nil {
			opened.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("interrupted while opening the store %s, and the files that open its keys", cfg.Store)
	}
}

// besideConfig are the flags for what a configuration file does not contain.
var besideConfig = []string{"config", "log-format", "log-level", "trust-clock", "help"}

// fromFile completes cfg for the issuers in the configuration file.
func (o *serveOptions) fromFile(cmd *cobra.Command, cfg *fleet.Config) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains(besideConfig, f.Name) && err == nil {
			err = hint.Errorf(fmt.Sprintf("set it in %s; `oidc-provider config example` shows where", o.file),
				"--%s and --config exclude each other", f.Name)
		}
	})
	if err != nil {
		return err
	}
	cfg.File = o.file
	if cfg.Content, err = config.Read(o.file); err != nil {
		return err
	}
	cfg.Settings, err = config.Parse(o.file, cfg.Content)
	return err
}

// check refuses flags that make no sense before anything is touched. It keeps of
// the policy what was set on purpose.
func (o *serveOptions) check(cmd *cobra.Command, log *slog.Logger) error {
	issuer, err := discovery.ParseIssuer(o.issuer.Issuer)
	if err != nil {
		return err
	}
	if o.managed.Policy, err = o.policy.policy(cmd.Flags()); err != nil {
		return err
	}
	second := config.Duration(time.Second)
	switch m := &o.managed; {
	case m.PublishOnly && m.SignerSocket != "":
		return errors.New("--publish-only and --signer-socket exclude each other")
	case m.PublishOnly && m.Policy != config.Policy{}:
		return errors.New("the policy is set by servers that rotate, not with --publish-only")
	case (o.tls.CertFile == "") != (o.tls.KeyFile == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case o.issuer.JWKSMaxAge < second || o.issuer.DiscoveryMaxAge < second || m.RefreshHint < second:
		return errors.New("--jwks-max-age, --discovery-max-age and --refresh-hint must be at least 1s: they are used in " +
			"whole seconds")
	case o.config.MaxConnections < 0 || o.config.MaxConnectionsPerAddress < 0:
		return errors.New("--max-connections and --max-connections-per-address must not be negative")
	case o.config.ShutdownDelay < 0:
		return errors.New("--shutdown-delay must not be negative")
	}
	o.warn(cmd, issuer, log)
	return o.managed.SignerAccess().Check(o.managed.SignerSocket)
}

// warn logs what is allowed and probably not meant.
func (o *serveOptions) warn(cmd *cobra.Command, issuer discovery.Issuer, log *slog.Logger) {
	log = log.With("issuer", issuer.String())
	changed := cmd.Flags().Changed
	if u := issuer.URL(); u.Scheme == "http" && !changed("issuer") && changed("listen") {
		if _, port, err := net.SplitHostPort(o.config.Listen); err == nil && port != u.Port() {
			log.Warn("the documents are served on another port than that of the issuer", "listen", o.config.Listen,
				"hint", "set --issuer")
		}
	}
	if changed("issuer") { // the default issuer is for this machine only
		for _, w := range issuer.Warnings() {
			log.Warn(w)
		}
	}
}

func newMetrics() *prometheus.Registry {
	v := buildVersion()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "oidc_provider_build_info",
			Help:        "1, with the version of this program.",
			ConstLabels: prometheus.Labels{"version": v.Version, "commit": v.Commit, "goversion": v.Go},
		}, func() float64 { return 1 }))
	return metrics
}
