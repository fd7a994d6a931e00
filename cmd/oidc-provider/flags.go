package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/internal/config"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/seal"
	"oidc-provider/internal/store"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

const (
	defaultStore  = "file:./oidc-provider-keys"
	defaultIssuer = "http://localhost:8080"
)

// addStoreFlags adds the flags that fill cfg.
func addStoreFlags(flags *pflag.FlagSet, cfg *store.Config) {
	flags.StringVar(&cfg.Store, "store", defaultStore,
		"`STORE` of the ring: a directory, etcd://HOST:2379,HOST:2379/PREFIX or secret:NAMESPACE/NAME")
	flags.StringVar(&cfg.Etcd.CAFile, "etcd-ca-file", "", "PEM `FILE` with the CA of the etcd servers")
	flags.StringVar(&cfg.Etcd.CertFile, "etcd-cert-file", "", "PEM `FILE` with the client certificate for etcd")
	flags.StringVar(&cfg.Etcd.KeyFile, "etcd-key-file", "", "PEM `FILE` with the key of that certificate")
	flags.StringVar(&cfg.Etcd.User, "etcd-user", "", "user `NAME` to log in to etcd")
	flags.StringVar(&cfg.Etcd.PasswordFile, "etcd-password-file", "", "`FILE` with the password of that user")
	flags.BoolVar(&cfg.Etcd.Insecure, "etcd-insecure", false,
		"connect to etcd beyond this machine without TLS: anyone in between can read and replace the ring")
	flags.StringVar(&cfg.Kubeconfig, "kubeconfig", "",
		"kubeconfig `FILE` for a store in a Secret; default as kubectl, or the cluster this runs in")
	flags.StringVar(&cfg.Context, "context", "", "context `NAME` in the kubeconfig")
	flags.StringSliceVar(&cfg.AgeIdentities, "age-identity", nil,
		"`FILE` with the age identity that opens sealed keys; may be given several times")
	flags.StringVar(&cfg.KMSSocket, "kms-socket", "",
		"Unix socket `FILE` of the Kubernetes KMS v2 plugin that seals and opens keys")
	flags.StringSliceVar(&cfg.RingSigners, "ring-signer", nil,
		"`ID` of a writer of the ring whose signature is trusted, ed25519:…, besides those of the identities; "+
			"may be given several times")
	flags.BoolVar(&cfg.AllowUnsignedRing, "allow-unsigned-ring", false,
		"accept a ring that is not signed although an identity could have signed it; only until 'keys sign' has run")
}

// ringFlags say which ring a command works on: the one in the store that flags
// name, or that of an issuer in a configuration file.
type ringFlags struct {
	store        store.Config
	file, issuer string
	fromFile     []config.Issuer // the managed issuers of the file, once it was read
}

func (f *ringFlags) add(cmd *cobra.Command) {
	addStoreFlags(cmd.Flags(), &f.store)
	cmd.Flags().StringVar(&f.file, "config", "", "configuration `FILE` of serve that names the store, instead of --store")
	cmd.Flags().StringVar(&f.issuer, "issuer", "",
		"`URL` of the issuer; with --config optional if it has one managed issuer")
	cmd.RegisterFlagCompletionFunc("issuer", f.completeIssuers)
}

// resolve returns how to open the store, and the issuer whose ring must be in it,
// "" for any.
func (f *ringFlags) resolve(cmd *cobra.Command) (cfg store.Config, issuer string, err error) {
	if err := f.check(cmd); err != nil {
		return cfg, "", err
	}
	if f.file == "" {
		return f.store, f.issuer, nil
	}
	managed, err := f.managed()
	switch {
	case err != nil:
		return cfg, "", err
	case len(managed) > 1:
		return cfg, "", hint.Errorf("add --issuer with one of "+issuerNames(managed), "%s has %d managed issuers", f.file,
			len(managed))
	}
	return managed[0].Managed.Config, managed[0].Issuer, nil
}

// check decides between --config and the flags of a store: one that was typed
// overrides the other if that comes from the environment.
func (f *ringFlags) check(cmd *cobra.Command) (err error) {
	if f.file == "" {
		return nil
	}
	file := typed(cmd.Flags(), "config")
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	addStoreFlags(own, new(store.Config))
	own.VisitAll(func(flag *pflag.Flag) {
		switch store := typed(cmd.Flags(), flag.Name); {
		case !cmd.Flags().Changed(flag.Name) || file && !store:
		case store && !file:
			f.file = ""
		default:
			err = cmp.Or(err, fmt.Errorf("--config and --%s exclude each other", flag.Name))
		}
	})
	return err
}

// managed returns the managed issuers of the configuration file: the one that
// --issuer names, or all of them.
func (f *ringFlags) managed() ([]config.Issuer, error) {
	if f.fromFile == nil {
		if err := f.load(); err != nil {
			return nil, err
		}
	}
	managed := f.fromFile
	if f.issuer == "" {
		return managed, nil
	}
	n := slices.IndexFunc(managed, func(i config.Issuer) bool { return i.Issuer == f.issuer })
	if n < 0 {
		return nil, hint.Errorf("its managed issuers are "+issuerNames(managed), "%s has no managed issuer %q", f.file,
			f.issuer)
	}
	return managed[n : n+1], nil
}

// load reads the configuration file.
func (f *ringFlags) load() error {
	_, issuers, err := config.LoadAll(f.file)
	if issuers == nil && err != nil {
		return err
	}
	for _, i := range issuers {
		if i.Managed != nil {
			f.fromFile = append(f.fromFile, i)
		}
	}
	if len(f.fromFile) == 0 {
		return errors.Join(fmt.Errorf("%s has no managed issuer, and only those have a ring", f.file), err)
	}
	return nil
}

func issuerNames(issuers []config.Issuer) string {
	const most = 10
	var names []string
	for _, i := range issuers {
		names = append(names, i.Issuer)
	}
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// open opens the store for a command that changes the ring, or needs private keys.
// The caller must close it.
func (f *ringFlags) open(cmd *cobra.Command) (*store.Handle, error) {
	cfg, issuer, err := f.resolve(cmd)
	if err != nil {
		return nil, err
	}
	return store.OpenFor(cfg, issuer)
}

// read returns the ring, for a command that needs no private key.
func (f *ringFlags) read(cmd *cobra.Command) (*rotation.Ring, error) {
	cfg, issuer, err := f.resolve(cmd)
	if err != nil {
		return nil, err
	}
	return readRing(cmd.Context(), cfg, issuer)
}

// readRing returns the ring in a store, which must be that of issuer unless that
// is "".
func readRing(ctx context.Context, cfg store.Config, issuer string) (*rotation.Ring, error) {
	s, err := store.OpenFor(cfg.WithoutKeys(), issuer)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.ReadTrusted(ctx)
}

// addWitnessFlags adds the flags for the witnesses of a ring.
func addWitnessFlags(flags *pflag.FlagSet, urls *[]string, caFile *string) {
	flags.StringSliceVar(urls, "witness", nil,
		"`URL` of a key set; a ring that lacks one of its keys may be an old backup, and is not changed or restored; "+
			"may be given several times; default the issuer's own if it is https; \"none\" asks no server")
	flags.StringVar(caFile, "witness-ca-file", "", "PEM `FILE` with the CA of the witnesses; default the system's")
}

// addTrustClockFlag adds the flag with which an operator vouches for the clock.
func addTrustClockFlag(flags *pflag.FlagSet, trust *bool) {
	flags.BoolVar(trust, "trust-clock", false,
		"take the clock of this machine to be right; for machines on which neither NTP nor a witness confirms it")
}

// recipientFlag is --recipient of commands that seal keys.
type recipientFlag struct{ recipients []string }

func (f *recipientFlag) add(flags *pflag.FlagSet, usage string) {
	flags.StringSliceVar(&f.recipients, "recipient", nil,
		usage+" this `RECIPIENT`: an age recipient (age1…), or \"kms\" for the plugin at --kms-socket; "+
			"may be given several times")
}

// check refuses recipients that cannot be sealed for.
func (f *recipientFlag) check() error {
	if f.recipients == nil {
		return nil
	}
	return seal.CheckRecipients(f.recipients)
}

var policyFlagNames = []string{"schedule", "algorithm", "rsa-bits", "publish-ahead", "max-token-lifetime", "clock-skew"}

// flagList returns flags as a list for people.
func flagList(names []string) string { return "--" + strings.Join(names, ", --") }

// policyFlags are the flags for a ring's policy.
type policyFlags struct{ config.Policy }

func (p *policyFlags) add(cmd *cobra.Command) {
	flags, d := cmd.Flags(), rotation.DefaultPolicy
	duration := func(value *config.Duration, name string, standard rotation.Duration, usage string) {
		flags.DurationVar((*time.Duration)(value), name, time.Duration(standard), usage)
	}
	flags.StringVar(&p.Schedule, "schedule", d.Schedule,
		"`SCHEDULE` on which a new key becomes active: \"@every 720h\", \"@weekly\", or minute hour day month weekday in UTC")
	flags.StringVar(&p.Algorithm, "algorithm", string(d.Algorithm),
		"`ALGORITHM` of new keys: "+strings.Join(jwks.AlgorithmNames(), ", "))
	completeWords(cmd, "algorithm", jwks.AlgorithmNames()...)
	flags.IntVar(&p.RSABits, "rsa-bits", d.RSABits, "`BITS` of new RS256 keys: 2048, 3072 or 4096")
	completeWords(cmd, "rsa-bits", "2048", "3072", "4096")
	duration(&p.PublishAhead, "publish-ahead", d.PublishAhead, "`DURATION` for which a key is published before it signs")
	duration(&p.MaxTokenLifetime, "max-token-lifetime", d.MaxTokenLifetime,
		"longest lifetime, a `DURATION`, of a signed token; retired keys stay published for as long")
	duration(&p.ClockSkew, "clock-skew", d.ClockSkew,
		"largest difference, a `DURATION`, between the clocks of two machines")
}

// policy returns what was set on purpose, and zeros for the rest.
func (p *policyFlags) policy(flags *pflag.FlagSet) (config.Policy, error) {
	var set config.Policy
	for name, apply := range map[string]func(){
		"schedule":           func() { set.Schedule = p.Schedule },
		"algorithm":          func() { set.Algorithm = p.Algorithm },
		"rsa-bits":           func() { set.RSABits = p.RSABits },
		"publish-ahead":      func() { set.PublishAhead = p.PublishAhead },
		"max-token-lifetime": func() { set.MaxTokenLifetime = p.MaxTokenLifetime },
		"clock-skew":         func() { set.ClockSkew = p.ClockSkew },
	} {
		flag := flags.Lookup(name)
		if !flag.Changed {
			continue
		}
		if v := flag.Value.String(); v == "0" || v == "0s" || v == "" {
			return set, fmt.Errorf("--%s must be more than 0", name)
		}
		apply()
	}
	if typed(flags, "rsa-bits") && flags.Changed("algorithm") && set.Algorithm != string(jose.RS256) {
		return set, fmt.Errorf("--rsa-bits goes with RS256, not with %s", set.Algorithm)
	}
	return set, set.Rotation().Validate()
}

// parseIssuer checks an issuer and says on stderr what will be hard with it.
func parseIssuer(cmd *cobra.Command, raw string) (discovery.Issuer, error) {
	issuer, err := discovery.ParseIssuer(raw)
	if err != nil {
		return issuer, err
	}
	for _, w := range issuer.Warnings() {
		warn(cmd, "%s", w)
	}
	return issuer, nil
}

// warnError prints err and its hint as a warning.
func warnError(cmd *cobra.Command, err error) { warn(cmd, "%s", hint.Text(err, flagName)) }

func warn(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), "Warning: "+format+"\n", args...)
}
