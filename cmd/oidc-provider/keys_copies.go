package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/publish"
	"oidc-provider/rotation"
)

func newKeysCopiesCommand() *cobra.Command {
	var ring ringFlags
	var output outputFlag
	cmd := &cobra.Command{
		Use:        "copies",
		Aliases:    []string{"copy"},
		SuggestFor: []string{"acknowledge"},
		Short:      "Show, add and remove copies of the key set that rotations wait for",
		Long: `Show the registered copies of the key set, and which keys each of them has
confirmed.

A copy is a place that relying parties read keys from and no server writes to: a
key set that was uploaded to Google Cloud, public keys in Vault, files in a bucket.
Once it is registered, no key signs before the copy has it: a rotation waits until
'keys copies confirm' says so, and for publish-ahead after that. The active key
keeps signing until then. 'keys rotate --force' and 'keys revoke' do not wait.
A revoked key is shown until 'keys copies confirm --from' sees that it was taken out.

To show them takes no identity. To change them takes that of a writer, if the ring
is signed.`,
		Example: `  oidc-provider keys copies
  oidc-provider keys copies add google-prod
  oidc-provider keys copies -o json | jq -r '.copies[] | select(any(.keys[]; .confirmedAt == null)).name'`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := ring.read(cmd)
			if err != nil {
				return err
			}
			copies := listCopies(r, r.At(time.Now()))
			if output.structured() {
				return output.write(cmd.OutOrStdout(), copiesInfo{r.Issuer, copies})
			}
			return printCopyTable(cmd, copies)
		},
	}
	ring.add(cmd)
	output.add(cmd, "table")
	cmd.AddCommand(newKeysCopiesAddCommand(), newKeysCopiesConfirmCommand(), newKeysCopiesRemoveCommand())
	return cmd
}

// copiesInfo is what `keys copies -o json` shows.
type copiesInfo struct {
	Issuer string     `json:"issuer"`
	Copies []copyInfo `json:"copies"`
}

// copyInfo is a copy as `keys copies -o json` shows it.
type copyInfo struct {
	Name  string    `json:"name"`
	Since time.Time `json:"since"`
	// Keys are those of the key set, with when the copy has confirmed them, null if
	// it has not, and revoked keys that it had confirmed.
	Keys []copiedKey `json:"keys"`
}

type copiedKey struct {
	KeyID       string         `json:"kid"`
	Phase       rotation.Phase `json:"phase"`
	ConfirmedAt *time.Time     `json:"confirmedAt"`
}

func listCopies(r *rotation.Ring, at time.Time) []copyInfo {
	copies := []copyInfo{}
	for _, c := range r.Copies {
		info := copyInfo{Name: c.Name, Since: c.Since, Keys: []copiedKey{}}
		for i := range r.Keys {
			k := &r.Keys[i]
			if !k.InKeySet() && (k.Published() || k.CopyConfirmedAt[c.Name].IsZero()) {
				continue
			}
			key := copiedKey{KeyID: k.KeyID, Phase: k.Phase(at)}
			if since, ok := k.CopyConfirmedAt[c.Name]; ok {
				key.ConfirmedAt = &since
			}
			info.Keys = append(info.Keys, key)
		}
		copies = append(copies, info)
	}
	return copies
}

func printCopyTable(cmd *cobra.Command, copies []copyInfo) error {
	if len(copies) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "The ring has no copies: rotations wait only for its servers.\n")
		return nil
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tKID\tPHASE\tCONFIRMED")
	for _, c := range copies {
		for _, k := range c.Keys {
			confirmed := "<no>"
			if k.ConfirmedAt != nil {
				confirmed = describe.Time(*k.ConfirmedAt)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s%s\n", c.Name, k.KeyID, k.Phase, confirmed, meaning(k))
		}
	}
	return w.Flush()
}

// meaning returns the last cell of a key that a copy should have and may lack, or
// the reverse.
func meaning(k copiedKey) string {
	switch has := k.ConfirmedAt != nil; {
	case has && k.Phase == rotation.Revoked:
		return "\tmay be there: take it out"
	case !has && k.Phase != rotation.Next:
		return "\tmay be missing: its tokens are rejected there"
	}
	return ""
}

func newKeysCopiesAddCommand() *cobra.Command {
	var ring changeFlags
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a copy of the key set that rotations wait for",
		Long: `Add a copy of the key set that rotations wait for from now on. Choose any name of
a-z, 0-9, - . and _.

A rotation that is already planned waits as well. If it is nearer than
publish-ahead, a server that is cut off from the store may follow the plan
anyway; the command warns of it. Servers must be of a version that knows copies: older
ones refuse the ring.`,
		Example: `  oidc-provider keys copies add google-prod`,
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var signs time.Time
			r, changed, err := changeCopies(cmd, &ring, func(r *rotation.Ring) (next *rotation.Ring, err error) {
				next, signs, err = rotation.AddCopy(r, args[0], time.Now())
				return next, err
			})
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if !changed {
				fmt.Fprintf(out, "Copy %s is registered already.\n", args[0])
				return nil
			}
			warnOfPlan(cmd, r, args[0], signs)
			fmt.Fprintf(out, "Added copy %s. It should have this key set:\n", args[0])
			describe.Keys(out, r, time.Now())
			kid := "KID" // of the next key, once there is one
			if standby := r.Standby(r.At(time.Now())); standby != nil {
				kid = standby.KeyID
			}
			fmt.Fprintf(out, `
Upload this key set to the copy, and then confirm it:

  curl %s
  %s keys copies confirm%s %s %s
`, publish.KeySetURL(r), program(), storeArguments(cmd.Flags()), args[0], kid)
			return nil
		},
	}
	ring.add(cmd)
	return cmd
}

// warnOfPlan says that the next key may sign from a time on whether the copy
// that was just named has it or not.
func warnOfPlan(cmd *cobra.Command, r *rotation.Ring, name string, signs time.Time) {
	standby := r.Standby(r.At(time.Now()))
	if signs.IsZero() || standby == nil {
		return
	}
	if !standby.SignFrom.IsZero() {
		warn(cmd, "key %s signs from %s, which is too near to be put off, and copy %s may not have it: bring it there "+
			"before then", standby.KeyID, describe.Time(signs), name)
		return
	}
	warn(cmd, "key %s waits for copy %s now, but a server that does not hear of that may sign with it from %s: bring "+
		"it there before then", standby.KeyID, name, describe.Time(signs))
}

func newKeysCopiesRemoveCommand() *cobra.Command {
	var ring changeFlags
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Aliases: []string{"rm"},
		Short:   "Remove a copy: rotations do not wait for it any more",
		Long: `Remove a copy: rotations do not wait for it any more, and one that waited only
for it continues. What the copy has confirmed is forgotten.`,
		Example:           `  oidc-provider keys copies remove google-prod`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: completeCopies(&ring.ringFlags, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, _, err := changeCopies(cmd, &ring, func(r *rotation.Ring) (*rotation.Ring, error) {
				return rotation.RemoveCopy(r, args[0], time.Now())
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Removed copy %s: relying parties that read it will reject tokens signed with "+
				"later keys. The keys are\n", args[0])
			describe.Keys(cmd.OutOrStdout(), r, time.Now())
			return nil
		},
	}
	ring.add(cmd)
	return cmd
}

// changeCopies changes the ring in a store, and says whether there was something to change.
func changeCopies(cmd *cobra.Command, flags *changeFlags, change func(*rotation.Ring) (*rotation.Ring, error)) (
	r *rotation.Ring, changed bool, err error) {
	s, err := flags.open(cmd)
	if err != nil {
		return nil, false, err
	}
	defer s.Close()
	r, err = s.Update(cmd.Context(), func(r *rotation.Ring) (*rotation.Ring, error) {
		next, err := change(r)
		changed = next != r
		return next, err
	})
	return r, changed, err
}
