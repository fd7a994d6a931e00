package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"oidc-provider/internal/check"
	"oidc-provider/internal/describe"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/publish"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

func newKeysRevokeCommand() *cobra.Command {
	var revoke revocation
	cmd := &cobra.Command{
		Use:   "revoke KID",
		Short: "Remove a key from the key set at once and for good",
		Long: `Remove a key from the key set at once and for good. Relying parties that fetch
the key set again reject its tokens. If the key was active, the next key signs from
now on.

If relying parties may not have that next key yet, the command says what will fail
and until when, and asks first. A script, which cannot be asked, needs --force.
--dry-run says the same and changes nothing.

If the ring is signed, it takes the identity of a writer. One that may only revoke is
enough: see 'keys writers add --revoke-only'.

Removal is not revocation: a relying party that has cached the key set keeps
accepting the key until its cache expires. The command prints when that is. Remove
the key from registered copies yourself.`,
		Example: `  oidc-provider keys revoke JvL9VBeh-uFhN5rvHhxuhbREw1XFUw2IhH26RaIQqjE --dry-run
  oidc-provider keys revoke JvL9VBeh-uFhN5rvHhxuhbREw1XFUw2IhH26RaIQqjE`,
		Args:              exactArgs("KID"),
		ValidArgsFunction: completeKeys(&revoke.ring.ringFlags, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			revoke.kid = args[0]
			return revoke.run(cmd)
		},
	}
	revoke.ring.add(cmd)
	cmd.Flags().BoolVar(&revoke.force, "force", false,
		"revoke without asking, even if relying parties may not know the next key yet")
	cmd.Flags().BoolVar(&revoke.dryRun, "dry-run", false, "print what would happen, and change nothing")
	return cmd
}

// A revocation is a run of `keys revoke`.
type revocation struct {
	ring          changeFlags
	kid           string
	force, dryRun bool
	explained     bool // what it does was printed
}

func (v *revocation) run(cmd *cobra.Command) error {
	s, err := v.ring.open(cmd)
	if err != nil {
		return err
	}
	defer s.Close()
	before, err := s.ReadTrusted(cmd.Context())
	if err != nil {
		return err
	}
	after, err := v.apply(before)
	alone := before.MayOnlyRevoke(cmd.Context(), s.Sealer)
	switch {
	case err != nil && alone && v.force && !v.dryRun: // as with a ring from the future, which it cannot repair
		return v.writeAlone(cmd, s, before)
	case err != nil:
		return fmt.Errorf("store %s: %w", s, err)
	case after == before:
		fmt.Fprintf(cmd.OutOrStdout(), "Key %s is revoked already.\n", v.kid)
		return nil
	case v.dryRun:
		v.explain(cmd, cmd.OutOrStdout(), before, after)
		fmt.Fprintln(cmd.OutOrStdout(), "Nothing was changed (dry run).")
		return nil
	}
	if v.harms(before, after) && !v.force {
		v.explain(cmd, cmd.ErrOrStderr(), before, after)
		if err := confirm(cmd, "Revoke it now?"); err != nil {
			return err
		}
		v.force, v.explained = true, true
	}
	if alone {
		return v.writeAlone(cmd, s, before)
	}
	return v.write(cmd, s)
}

// writeAlone revokes the key with an identity that may do nothing else.
func (v *revocation) writeAlone(cmd *cobra.Command, s *store.Handle, r *rotation.Ring) error {
	if err := s.RevokeAlone(cmd.Context(), v.kid); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Revoked %s with an identity that may only revoke. "+
		"Every server obeys at once, and the next one that can "+
		"sign the ring revokes the key in it, and makes another key active if this one was.\n", v.kid)
	if !v.explained {
		warnOfCopies(cmd, r, v.kid)
		printCaches(cmd, out)
	}
	return nil
}

// write revokes the key in the store and prints what is left.
func (v *revocation) write(cmd *cobra.Command, s *store.Handle) error {
	harms := false
	r, err := s.Update(cmd.Context(), func(r *rotation.Ring) (*rotation.Ring, error) {
		next, err := v.apply(r)
		if err != nil {
			return r, err
		}
		if harms = v.harms(r, next); harms && !v.force {
			return r, hint.Errorf("run it again", "the ring has changed meanwhile: relying parties may not have the next key")
		}
		return next, nil
	})
	if err != nil {
		return err
	}
	if harms && !v.explained {
		warnOfForced(cmd, r)
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Revoked %s. What is left:\n", v.kid)
	describe.Keys(out, r, time.Now())
	if !v.explained {
		warnOfCopies(cmd, r, v.kid)
		printCaches(cmd, out)
	}
	return nil
}

// apply returns the ring without the key, or r itself if it is revoked already.
func (v *revocation) apply(r *rotation.Ring) (*rotation.Ring, error) {
	next, events, err := rotation.Revoke(r, v.kid, time.Now(), rotation.GenerateKey)
	if err != nil || len(events) == 0 {
		return r, err
	}
	return next, nil
}

// harms reports whether the revocation makes a key sign that relying parties may
// not have yet.
func (v *revocation) harms(before, after *rotation.Ring) bool {
	now := time.Now()
	active := after.Active(after.At(now))
	return active.KeyID != before.Active(before.At(now)).KeyID && active.Forced
}

// explain prints what the revocation does. It leaves out the key that would be made,
// since the one that is made will be another.
func (v *revocation) explain(cmd *cobra.Command, w io.Writer, before, after *rotation.Ring) {
	fmt.Fprintf(w, "Revoking %s removes it from the key set at once.\nThis breaks tokens: those that it has signed are "+
		"rejected by relying parties that fetch the key set again. Workloads need new ones.\nWhat is left:\n", v.kid)
	left := *after
	left.Keys = slices.DeleteFunc(slices.Clone(after.Keys), func(k rotation.Key) bool { return !before.Knows(k.KeyID) })
	describe.Keys(w, &left, time.Now())
	if v.harms(before, after) {
		for _, text := range consequences(cmd, after) {
			fmt.Fprintf(w, "\nThis breaks new tokens: %s\n", text)
		}
	}
	warnOfCopies(cmd, after, v.kid)
	printCaches(cmd, w)
	fmt.Fprintln(w)
}

// printCaches prints which relying parties accept a key that is revoked now from
// their caches, until when, and how to make them drop it.
func printCaches(cmd *cobra.Command, w io.Writer) {
	now := time.Now()
	fmt.Fprintln(w, "\nRelying parties that have cached the revoked key accept it, with the default max-age")
	for _, d := range check.RevokedDelays() {
		switch d.After {
		case 0:
			fmt.Fprintln(w, item("not at all", d.Titles))
		case check.UntilExpiry:
			fmt.Fprintln(w, item("until exp, which anyone who has the private key can choose", d.Titles))
		default:
			fmt.Fprintln(w, item("until "+describe.Time(now.Add(d.After)), d.Titles))
		}
	}
	fmt.Fprintf(w, `
These drop it at once when they get a flush token, which verifies with no published key:
    %s
Make one for each of their audiences, and present it there as a bearer token:
  %s token --flush%s --audience AUDIENCE
Restart or flush the other relying parties that matter, and have workloads get new tokens.
`, indented(strings.Join(check.Flushable(), ", ")), program(), storeArguments(cmd.Flags()))
}

// confirm asks the user a question on the terminal. It returns an error unless the
// answer is yes, or if standard input is not a terminal.
func confirm(cmd *cobra.Command, question string) error {
	in, ok := cmd.InOrStdin().(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return hint.Errorf("add --force to do it without asking",
			"nothing was changed: standard input is not a terminal, so the command cannot ask")
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// warnOfCopies prints which copies may still have the key that was just revoked.
func warnOfCopies(cmd *cobra.Command, r *rotation.Ring, kid string) {
	i := slices.IndexFunc(r.Keys, func(k rotation.Key) bool { return k.KeyID == kid })
	if len(r.Copies) == 0 || i < 0 || r.Keys[i].ExcludeFromDiscovery {
		return
	}
	var names []string
	for _, c := range r.Copies {
		names = append(names, c.Name)
	}
	warn(cmd, "%s may still have the revoked key: relying parties that read the copy accept it until it is removed "+
		"there. Update it with the current key set, %s", rotation.NameCopies(names), publish.KeySetURL(r))
}
