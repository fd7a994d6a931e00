package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/internal/seal"
	"oidc-provider/internal/store"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

const (
	defaultStore  = "file:./oidc-provider-keys"
	defaultIssuer = "http://localhost:8080"
)

// storeFlags say where the ring is, how to get there, and what opens its keys.
// Every command that works on a ring has them.
type storeFlags struct {
	spec string
	via  store.Options
	seal seal.Config
}

func (s *storeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&s.spec, "store", defaultStore, "where the keys are: a directory, etcd://HOST:2379,HOST:2379/PREFIX or secret:NAMESPACE/NAME")
	flags.StringVar(&s.via.EtcdCAFile, "etcd-ca-file", "", "PEM file with the CA of the etcd servers")
	flags.StringVar(&s.via.EtcdCertFile, "etcd-cert-file", "", "PEM file with the certificate to show to etcd")
	flags.StringVar(&s.via.EtcdKeyFile, "etcd-key-file", "", "PEM file with the key of that certificate")
	flags.StringVar(&s.via.EtcdUser, "etcd-user", "", "user to log in to etcd as")
	flags.StringVar(&s.via.EtcdPasswordFile, "etcd-password-file", "", "file with the password of that user")
	flags.StringVar(&s.via.Kubeconfig, "kubeconfig", "", "kubeconfig file for a secret: store; default as kubectl, or the cluster this runs in")
	flags.StringVar(&s.via.Context, "context", "", "context of the kubeconfig")
	flags.StringSliceVar(&s.seal.IdentityFiles, "age-identity", nil, "file with the age identity that opens sealed keys; may be given several times")
	flags.StringVar(&s.seal.KMSSocket, "kms-socket", "", "Unix socket of the Kubernetes KMS v2 plugin that seals and opens keys")
}

// A place is an open store and the sealer for the keys in it.
type place struct {
	rotation.Store
	sealer *seal.Sealer
}

func (s *storeFlags) open() (place, error) {
	sealer, err := seal.New(s.seal)
	if err != nil {
		return place{}, err
	}
	opened, err := s.openStore()
	return place{opened, sealer}, err
}

// openStore is open for somebody who needs no private key.
func (s *storeFlags) openStore() (rotation.Store, error) { return store.Open(s.spec, s.via) }

// close lets go of connections. What they could still fail at is over.
func (p place) close() {
	if c, ok := p.Store.(io.Closer); ok {
		c.Close()
	}
	p.sealer.Close()
}

func (p place) read(ctx context.Context) (*rotation.Ring, error) { return rotation.Read(ctx, p.Store) }

func (p place) create(ctx context.Context, r *rotation.Ring) error {
	return rotation.Create(ctx, p.Store, p.sealer, r)
}

func (p place) update(ctx context.Context, change func(*rotation.Ring) (*rotation.Ring, error)) (*rotation.Ring, error) {
	return rotation.Update(ctx, p.Store, p.sealer, change)
}

// plainWarning says what it means that r stands in p as it is, "" if nothing.
func (p place) plainWarning(r *rotation.Ring) string {
	if _, local := p.Store.(*store.File); local || len(r.Recipients) > 0 {
		return ""
	}
	return "the private keys stand in the store as they are: whoever can read it, or a backup of it, can sign tokens (hint: `oidc-provider keys reseal --recipient`)"
}

// recipientFlag is --recipient of commands that seal keys.
type recipientFlag struct{ recipients []string }

func (f *recipientFlag) add(flags *pflag.FlagSet, usage string) {
	flags.StringSliceVar(&f.recipients, "recipient", nil, usage+`: an age recipient (age1…), or "kms" for the plugin at --kms-socket; may be given several times`)
}

// check refuses recipients that cannot be sealed for.
func (f *recipientFlag) check() error {
	if f.recipients == nil {
		return nil
	}
	return seal.CheckRecipients(f.recipients)
}

var policyFlagNames = []string{"schedule", "algorithm", "rsa-bits", "publish-ahead", "max-token-lifetime", "clock-skew"}

// policyFlags are the flags that make up a rotation.Policy.
type policyFlags struct {
	schedule, algorithm                  string
	rsaBits                              int
	publishAhead, maxTokenLifetime, skew time.Duration
}

func (p *policyFlags) add(flags *pflag.FlagSet) {
	d := rotation.DefaultPolicy
	algorithms := make([]string, len(jwks.Algorithms))
	for i, a := range jwks.Algorithms {
		algorithms[i] = string(a)
	}
	flags.StringVar(&p.schedule, "schedule", d.Schedule, `when a new key begins to sign: "@every 720h", "@weekly", or minute hour day month weekday in UTC`)
	flags.StringVar(&p.algorithm, "algorithm", string(d.Algorithm), "algorithm of new keys: "+strings.Join(algorithms, ", "))
	flags.IntVar(&p.rsaBits, "rsa-bits", d.RSABits, "size of new RS256 keys: 2048, 3072 or 4096")
	flags.DurationVar(&p.publishAhead, "publish-ahead", time.Duration(d.PublishAhead), "how long a key is published before it signs")
	flags.DurationVar(&p.maxTokenLifetime, "max-token-lifetime", time.Duration(d.MaxTokenLifetime), "longest time to exp that is signed; retired keys stay published for as long")
	flags.DurationVar(&p.skew, "clock-skew", time.Duration(d.ClockSkew), "largest difference between two machines' clocks")
}

// policy holds what was set on purpose, and zeros for the rest.
func (p *policyFlags) policy(flags *pflag.FlagSet) (rotation.Policy, error) {
	var set rotation.Policy
	for name, apply := range map[string]func(){
		"schedule":           func() { set.Schedule = p.schedule },
		"algorithm":          func() { set.Algorithm = jose.SignatureAlgorithm(p.algorithm) },
		"rsa-bits":           func() { set.RSABits = p.rsaBits },
		"publish-ahead":      func() { set.PublishAhead = rotation.Duration(p.publishAhead) },
		"max-token-lifetime": func() { set.MaxTokenLifetime = rotation.Duration(p.maxTokenLifetime) },
		"clock-skew":         func() { set.ClockSkew = rotation.Duration(p.skew) },
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
	if typed(flags, "rsa-bits") && flags.Changed("algorithm") && set.Algorithm != jose.RS256 {
		return set, fmt.Errorf("--rsa-bits goes with RS256, not with %s", set.Algorithm)
	}
	return set, set.Validate()
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

func warn(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), "Warning: "+format+"\n", args...)
}
