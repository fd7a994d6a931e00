package main

import (
	"bytes"
	"cmp"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/config"
	"oidc-provider/internal/describe"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

func newKeysListCommand() *cobra.Command {
	var ring ringFlags
	var output outputFlag
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "Show the keys in a store",
		Long: `Show the keys in a store and their phases:

  next          published, will sign
  active        signs
  retired       published until its last token has expired
  verify-only   imported as a public key, published until it is revoked
  revoked       neither signs nor is published

SIGNS FROM <not planned> means that the rotation waits for a server that publishes
the next key, or for copies of the key set: see 'keys copies'. What it waits for is
below the table, and waitsFor in the JSON, which has exact times.

With --config and without --issuer it lists the rings of all managed issuers of the
file; the JSON is then {"issuers": [...]}. No private key is needed: sealed keys stay
sealed.

With -o pem it prints the public keys that kube-apiserver gets from the signer, in the
order of the ring and without the revoked ones, as --service-account-key-file takes
them. The line before each key says which one it is. PEM is for one issuer.`,
		Example: `  oidc-provider keys list
  oidc-provider keys list -o json | jq -r '.keys[] | select(.phase == "active").kid'
  oidc-provider keys list -o pem > oidc-provider.pem
  oidc-provider keys list --config /etc/oidc-provider/config.yaml`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := ring.check(cmd); err != nil {
				return err
			}
			if ring.file != "" && ring.issuer == "" && output.format != formatPEM {
				return listAll(cmd, &ring, &output)
			}
			cfg, issuer, err := ring.resolve(cmd)
			if err != nil {
				return err
			}
			r, err := readToList(cmd, cfg, issuer)
			if err != nil {
				return err
			}
			now := time.Now()
			info := newRingInfo(r, cfg, now)
			switch {
			case output.structured():
				return output.write(cmd.OutOrStdout(), info)
			case output.format == formatPEM:
				return writePEM(cmd.OutOrStdout(), info, r)
			}
			return printRing(cmd, info, r, storeArguments(cmd.Flags()), now)
		},
	}
	ring.add(cmd)
	output.add(cmd, "table", formatPEM)
	return cmd
}

const formatPEM = "pem"

// writePEM writes the keys of r that the signer gives to kube-apiserver. PEM parsers
// ignore the lines between blocks.
func writePEM(w io.Writer, info ringInfo, r *rotation.Ring) error {
	var b bytes.Buffer
	for i, k := range info.Keys {
		if !r.Keys[i].Published() {
			continue
		}
		fmt.Fprintf(&b, "# kid %s, %s, %s\n", k.KeyID, k.Algorithm, k.Phase)
		if err := pem.Encode(&b, &pem.Block{Type: "PUBLIC KEY", Bytes: r.Keys[i].Public}); err != nil {
			return err
		}
	}
	if b.Len() == 0 {
		return errors.New("every key of the ring is revoked, and kube-apiserver does not take a file without keys")
	}
	_, err := b.WriteTo(w)
	return err
}

// listAll lists the rings of all managed issuers of a configuration file. One that
// cannot be read hides no other.
func listAll(cmd *cobra.Command, flags *ringFlags, output *outputFlag) error {
	managed, err := flags.managed()
	if err != nil {
		return err
	}
	list := []ringInfo{}
	var failed []error
	for i, m := range managed {
		now := time.Now()
		r, err := readToList(cmd, m.Managed.Config, m.Issuer)
		if err != nil {
			failed = append(failed, fmt.Errorf("issuer %s: %w", m.Issuer, err))
			continue
		}
		info := newRingInfo(r, m.Managed.Config, now)
		list = append(list, info)
		if output.structured() {
			continue
		}
		if i > 0 {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		if err := printRing(cmd, info, r, issuerArguments(flags.file, m), now); err != nil {
			return err
		}
	}
	if output.structured() {
		failed = append(failed, output.write(cmd.OutOrStdout(), map[string]any{"issuers": list}))
	}
	return errors.Join(failed...)
}

// issuerArguments returns the flags that lead another command to the ring of m.
func issuerArguments(file string, m config.Issuer) string {
	return " --config " + quote(file) + " --issuer " + quote(m.Issuer)
}

// readToList returns the ring in a store. It warns of a wrong clock, and of keys that
// relying parties cannot use.
func readToList(cmd *cobra.Command, cfg store.Config, issuer string) (*rotation.Ring, error) {
	r, err := readRing(cmd.Context(), cfg, issuer)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, err := range r.Unusable(r.At(now)) {
		warnError(cmd, err)
	}
	if err := r.CheckClock(now); err != nil {
		warnError(cmd, err)
	}
	return r, nil
}

// printRing prints a ring for people. arguments lead another command to it.
func printRing(cmd *cobra.Command, info ringInfo, r *rotation.Ring, arguments string, now time.Time) error {
	out := cmd.OutOrStdout()
	p := info.Policy
	bits := ""
	if p.Algorithm == "RS256" {
		bits = fmt.Sprintf(" (%d bits)", p.RSABits)
	}
	sealed := "plain"
	if len(info.Recipients) > 0 {
		sealed = "sealed for " + strings.Join(info.Recipients, ", ")
	}
	next := "not planned"
	if info.NextRotation != nil {
		next = fmt.Sprintf("%s (%s)", describe.Time(*info.NextRotation), describe.Relative(*info.NextRotation, now))
	}
	fmt.Fprintf(out, `Issuer:         %s
Store:          %s
Private keys:   %s
Signed by:      %s
Policy:         %s%s, %s, published %s ahead, tokens up to %s
Next rotation:  %s

`, info.Issuer, info.Store, sealed, signature(r, info.Verified), p.Algorithm, bits, p.Schedule, describe.Duration(p.PublishAhead),
		describe.Duration(p.MaxTokenLifetime), next)
	if err := printKeyTable(out, info.Keys, now); err != nil {
		return err
	}
	printWaiting(out, r, r.At(now), arguments)
	return nil
}

// signature says who has signed r, and whether that is only what r says.
func signature(r *rotation.Ring, verified bool) string {
	if !r.Signed() {
		return "not signed: anyone who can write the store can change the ring"
	}
	var names []string
	for _, id := range r.Signers() {
		names = append(names, fmt.Sprintf("%s (%s)", id, abbreviated([]string{r.FindWriter(id).Name})))
	}
	if !verified {
		return strings.Join(names, ", ") + "; --ring-signer verifies that"
	}
	return strings.Join(names, ", ")
}

func printKeyTable(w io.Writer, keys []keyInfo, now time.Time) error {
	var rows [][]string
	cell := func(t *time.Time, open string) string {
		if t == nil {
			return open
		}
		return describe.Relative(*t, now)
	}
	for _, k := range keys {
		const open = "<not planned>"
		from, until, removed := cell(k.SignFrom, open), cell(k.SignUntil, open), cell(k.RemoveAt, open)
		switch k.Phase {
		case rotation.Next:
			until, removed = "-", "-"
		case rotation.VerifyOnly:
			from, until, removed = "-", "-", "when revoked"
		case rotation.Revoked:
			removed = cell(k.RevokedAt, "-")
			if k.SignFrom == nil || k.RevokedAt != nil && k.SignFrom.After(*k.RevokedAt) { // it never signed
				from, until = "-", "-"
			} else {
				until = cell(cmp.Or(k.SignUntil, k.RevokedAt), "-")
			}
		}
		rows = append(rows, []string{k.KeyID, k.Algorithm, string(k.Phase), from, until, removed})
	}
	return writeTable(w, []string{"KID", "ALGORITHM", "PHASE", "SIGNS FROM", "SIGNS UNTIL", "REMOVED AT"}, rows)
}

// printWaiting prints what the next rotation waits for, and which copies may lack a
// key that does not wait for them.
func printWaiting(out io.Writer, r *rotation.Ring, at time.Time, arguments string) {
	if w := r.Waiting(at); w != nil {
		fmt.Fprintf(out, "\nThe next key waits for %s. Until then the active key signs.\n",
			strings.Join(describe.WaitsFor(w), ", "))
		if len(w.Copies) > 0 {
			late := "The schedule is kept if it is there by"
			if at.After(w.By) {
				late = "It is late: the schedule wants it there by"
			}
			fmt.Fprintf(out, "%s %s. Bring it to %s, and then run%s\n", late, describe.Time(w.By),
				rotation.NameCopies(w.Copies), confirmCommands(w.Copies, arguments, w.KeyID))
		}
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		lacking := r.Lacking(k)
		switch phase := k.Phase(at); {
		case len(lacking) == 0:
		case phase == rotation.Next && !k.SignFrom.IsZero():
			fmt.Fprintf(out, "\nKey %s signs from %s, and %s.\n", k.KeyID, describe.Time(k.SignFrom),
				describe.NotConfirmed(lacking))
		case phase == rotation.Active:
			fmt.Fprintf(out, "\nKey %s signs, and %s.\n", k.KeyID, describe.NotConfirmed(lacking))
		}
	}
}
