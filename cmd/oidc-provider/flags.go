package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
	"oidc-provider/store"
)

const (
	defaultStore  = "file:./oidc-provider-keys"
	defaultIssuer = "http://localhost:8080"
)

// storeFlag is the --store flag of every command that works on a ring.
type storeFlag struct{ spec string }

func (s *storeFlag) add(flags *pflag.FlagSet) {
	flags.StringVar(&s.spec, "store", defaultStore, "where the keys are: a directory, as a path or file: URL")
}

func (s *storeFlag) open() (rotation.Store, error) { return store.Open(s.spec) }

func (s *storeFlag) read(ctx context.Context) (*rotation.Ring, error) {
	opened, err := s.open()
	if err != nil {
		return nil, err
	}
	return rotation.Read(ctx, opened)
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
