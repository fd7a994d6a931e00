package main

import (
	"crypto/rsa"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/internal/config"
	"oidc-provider/internal/describe"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

func newKeysPolicyCommand() *cobra.Command {
	var ring ringFlags
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Show the policy of a ring, and change it with 'set'",
		Long: `Show the policy of a ring: the rules that its keys are planned under, where each
value comes from, and what is planned.

SOURCE is one of

  default             the value is the default
  ring                it was set by a flag or file of serve, or by 'keys policy set'
  configuration file  --config names a file that sets the same value
  ring; the configuration file sets ...
                      a server that reads the file will write its value into the ring`,
		Example: `  oidc-provider keys policy
  oidc-provider keys policy set --schedule @weekly --dry-run
  oidc-provider keys policy -o json | jq -r .policy.publishAhead`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := ring.read(cmd)
			if err != nil {
				return err
			}
			file, err := ring.filePolicy()
			if err != nil {
				return err
			}
			settings, now := policySettings(r.Policy, file), time.Now()
			if output.structured() {
				return output.write(cmd.OutOrStdout(), newPolicyInfo(r, settings, now))
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Issuer: %s\n\n", r.Issuer)
			var rows [][]string
			for _, s := range settings {
				if s.inFile != "" && s.inFile != s.value {
					s.source += "; the configuration file sets " + s.inFile
				}
				rows = append(rows, []string{s.flag, s.value, s.source})
			}
			if err := writeTable(out, []string{"SETTING", "VALUE", "SOURCE"}, rows); err != nil {
				return err
			}
			fmt.Fprintln(out)
			printPlan(out, r, now)
			return nil
		},
	}
	ring.add(cmd)
	output.add(cmd, "table")
	cmd.AddCommand(newKeysPolicySetCommand())
	return cmd
}

// filePolicy returns the policy that the configuration file sets for the issuer,
// which is zero without a file.
func (f *ringFlags) filePolicy() (rotation.Policy, error) {
	if f.file == "" {
		return rotation.Policy{}, nil
	}
	managed, err := f.managed()
	if err != nil {
		return rotation.Policy{}, err
	}
	return managed[0].Managed.Policy.Rotation(), nil
}

// newPolicy returns the policy of a new ring: what was set on purpose, then what the
// configuration file sets.
func (p *policyFlags) newPolicy(flags *pflag.FlagSet, ring *ringFlags) (rotation.Policy, error) {
	set, err := p.policy(flags)
	if err != nil {
		return rotation.Policy{}, err
	}
	file, err := ring.filePolicy()
	return set.Rotation().Or(file), err
}

// A policySetting is a value of a policy.
type policySetting struct {
	flag   string // without dashes
	field  string // in JSON and YAML
	value  string
	source string // default, ring or configuration file
	inFile string // what the configuration file sets
}

// policySettings returns the values of p in the order of the flags, and where each
// comes from. file is the policy in the configuration file.
func policySettings(p, file rotation.Policy) []policySetting {
	values, standards, files := policyValues(p), policyValues(rotation.DefaultPolicy), policyValues(file)
	list := []policySetting{}
	for i, s := range values {
		s.inFile = files[i].value
		switch {
		case s.inFile == s.value:
			s.source = "configuration file"
		case s.inFile != "":
			s.source = "ring"
		case s.value == standards[i].value:
			s.source = "default"
		default:
			s.source = "ring"
		}
		list = append(list, s)
	}
	return list
}

// policyValues returns the values of p, "" for those that are not set.
func policyValues(p rotation.Policy) []policySetting {
	text := func(d rotation.Duration) string {
		if d == 0 {
			return ""
		}
		return describe.Duration(d)
	}
	bits := ""
	if p.RSABits != 0 {
		bits = strconv.Itoa(p.RSABits)
	}
	return []policySetting{
		{flag: "schedule", field: "schedule", value: p.Schedule},
		{flag: "algorithm", field: "algorithm", value: string(p.Algorithm)},
		{flag: "rsa-bits", field: "rsaBits", value: bits},
		{flag: "publish-ahead", field: "publishAhead", value: text(p.PublishAhead)},
		{flag: "max-token-lifetime", field: "maxTokenLifetime", value: text(p.MaxTokenLifetime)},
		{flag: "clock-skew", field: "clockSkew", value: text(p.ClockSkew)},
	}
}

// policyInfo is a policy as `keys policy -o json` shows it.
type policyInfo struct {
	Issuer       string            `json:"issuer"`
	Policy       rotation.Policy   `json:"policy"`
	Sources      map[string]source `json:"sources"`      // by the fields of policy
	NextRotation *time.Time        `json:"nextRotation"` // null if it is not planned yet
	NextKey      *keyInfo          `json:"nextKey"`      // null if there is none yet
}

// A source is where a value comes from: default, ring or configuration file.
type source struct {
	Source string `json:"source"`
	File   string `json:"file,omitempty"` // what the configuration file sets, in force or not
}

func newPolicyInfo(r *rotation.Ring, settings []policySetting, now time.Time) policyInfo {
	ring := newRingInfo(r, store.Config{}, now)
	info := policyInfo{Issuer: r.Issuer, Policy: r.Policy, Sources: map[string]source{}, NextRotation: ring.NextRotation}
	for _, s := range settings {
		info.Sources[s.field] = source{s.source, s.inFile}
	}
	for i := range ring.Keys {
		if ring.Keys[i].Phase == rotation.Next {
			info.NextKey = &ring.Keys[i]
			break
		}
	}
	return info
}

// printPlan prints what is planned, and which promises outlive a change of policy.
func printPlan(w io.Writer, r *rotation.Ring, now time.Time) {
	fmt.Fprintln(w, "Planned:")
	describe.Keys(w, r, now)
	next := r.Standby(r.At(now))
	if next == nil {
		return
	}
	if next.Algorithm != r.Policy.Algorithm {
		fmt.Fprintf(w, "The next key is %s, since it was made under another policy. The keys after it are %s.\n",
			next.Algorithm, r.Policy.Algorithm)
	}
	if key, ok := next.PublicKey().Key().(*rsa.PublicKey); ok && r.Policy.Algorithm == next.Algorithm &&
		key.N.BitLen() != r.Policy.RSABits {
		fmt.Fprintf(w, "The next key has %d bits, since it was made under another policy. The keys after it have %d.\n",
			key.N.BitLen(), r.Policy.RSABits)
	}
	if next.PublishAhead > r.Policy.PublishAhead {
		fmt.Fprintf(w, "The next key is published %s ahead, since caches may still follow the longer time. "+
			"The keys after it: %s.\n", describe.Duration(next.PublishAhead), describe.Duration(r.Policy.PublishAhead))
	}
}

func newKeysPolicySetCommand() *cobra.Command {
	var ring changeFlags
	var policy policyFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Change the policy of a ring",
		Long: `Change the policy of a ring. Flags that are not given leave their value as it is.
Servers follow the new policy within two seconds.

A planned rotation is planned again. No key is made, removed or activated by this: an
algorithm is that of keys made from now on, and no retired key is removed before the
tokens that it signed under a longer lifetime have expired.

A server that is started with a policy flag, or reads a file that sets the policy,
writes its own value into the ring again. Change it there.`,
		Example: `  oidc-provider keys policy set --schedule @weekly
  oidc-provider keys policy set --algorithm ES256 --dry-run`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, err := policy.policy(cmd.Flags())
			if err != nil {
				return err
			}
			if set == (config.Policy{}) {
				return fmt.Errorf("nothing to set: name at least one of %s", flagList(policyFlagNames))
			}
			return setPolicy(cmd, &ring, set.Rotation(), dryRun)
		},
	}
	ring.add(cmd)
	policy.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would change, and change nothing")
	return cmd
}

func setPolicy(cmd *cobra.Command, ring *changeFlags, p rotation.Policy, dryRun bool) error {
	s, err := ring.open(cmd)
	if err != nil {
		return err
	}
	defer s.Close()
	file, err := ring.filePolicy()
	if err != nil {
		return err
	}
	var before rotation.Policy
	change := func(r *rotation.Ring) (*rotation.Ring, error) {
		before = r.Policy
		return rotation.SetPolicy(r, p, time.Now())
	}
	r, err := applyChange(cmd, s, dryRun, change)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	printPolicyChange(out, before, r.Policy)
	for _, w := range r.Policy.Warnings() {
		warn(cmd, "%s", w)
	}
	for i, s := range policyValues(file) {
		if now := policyValues(r.Policy)[i].value; s.value != "" && s.value != now {
			warn(cmd, "%s sets %s to %s: servers that read it will set it back. Change it in the file",
				ring.file, s.field, s.value)
		}
	}
	printPlan(out, r, time.Now())
	if dryRun {
		fmt.Fprintln(out, "Nothing was changed (dry run).")
	}
	return nil
}

func printPolicyChange(w io.Writer, before, after rotation.Policy) {
	if before == after {
		fmt.Fprintln(w, "The policy has these values already.")
		return
	}
	olds := policyValues(before)
	for i, s := range policyValues(after) {
		if s.value != olds[i].value {
			fmt.Fprintf(w, "%s: %s -> %s\n", s.flag, olds[i].value, s.value)
		}
	}
}
