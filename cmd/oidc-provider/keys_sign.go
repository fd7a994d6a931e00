package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

func newKeysSignCommand() *cobra.Command {
	var ring changeFlags
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Sign a ring that was never signed, so that only its writers can change it",
		Long: `Sign a ring that was never signed. From then on, servers and commands use only what
one of its writers has signed: write access to the store alone no longer changes what
is signed, published, or sealed for whom.

The first writers are the identities that are given: --age-identity, or --kms-socket
if the ring is sealed for kms. Give those of all servers that sign. 'keys writers add'
adds others.

Look at 'keys list' first: signing makes the ring as it is now the one that counts.
Versions of oidc-provider that know no signatures refuse a signed ring. They keep
publishing what they know, and sign for publish-ahead: upgrade all servers first. New
ones with an identity use the unsigned ring with --allow-unsigned-ring, which they no
longer need afterwards. Signing cannot be undone.`,
		Example: `  oidc-provider keys list --store etcd://127.0.0.1:2379/oidc-provider
  oidc-provider keys sign --store etcd://127.0.0.1:2379/oidc-provider --age-identity /etc/oidc-provider/identity.txt`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			if !s.Sealer.HasIdentity() {
				return hint.Errorf("add --age-identity FILE, or --kms-socket FILE", "there is nothing to sign the ring with")
			}
			s.Access.AllowUnsigned = true // that is what this command is for
			signed := false
			r, err := s.Update(cmd.Context(), func(r *rotation.Ring) (*rotation.Ring, error) {
				if signed = !r.Signed(); !signed {
					return r, nil
				}
				if err := r.CheckClock(time.Now()); err != nil {
					return r, err
				}
				return rotation.Enroll(cmd.Context(), r, s.Sealer, nil, time.Now())
			})
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if !signed {
				fmt.Fprintf(out, "The ring of %s is signed already.\n", r.Issuer)
				return nil
			}
			fmt.Fprintf(out, "Signed generation %d of the ring of %s. Its writers:\n", r.Generation, r.Issuer)
			if err := writeTable(out, writerColumns, writerRows(r, time.Now())); err != nil {
				return err
			}
			fmt.Fprintln(out, "Its keys:")
			describe.Keys(out, r, time.Now())
			warnOfRecipients(cmd, r)
			return nil
		},
	}
	ring.add(cmd)
	return cmd
}

// enroll makes the identities that were given writers of a new ring. A sealed ring
// needs one, since servers would refuse it.
func enroll(cmd *cobra.Command, s *store.Handle, r *rotation.Ring) (*rotation.Ring, error) {
	if !s.Sealer.HasIdentity() {
		if len(r.Recipients) == 0 {
			return r, nil
		}
		return r, hint.Errorf("add --age-identity with the file of one of the recipients, or --kms-socket for kms",
			"a ring that is sealed is also signed, and there is nothing to sign it with")
	}
	r, err := rotation.Enroll(cmd.Context(), r, s.Sealer, nil, time.Now())
	if err == nil {
		warnOfRecipients(cmd, r)
	}
	return r, err
}

// warnOfRecipients warns of recipients whose identities open the ring and cannot
// write it.
func warnOfRecipients(cmd *cobra.Command, r *rotation.Ring) {
	var missing []string
	for _, recipient := range r.Recipients {
		if !slices.ContainsFunc(r.Writers, func(w rotation.Writer) bool { return w.Name == recipient }) {
			missing = append(missing, recipient)
		}
	}
	if len(missing) > 0 {
		warn(cmd, "%s can open the keys, but not write the ring, and a server with no other identity needs "+
			"ringSigners to trust it. To change that, run `%s keys writers id --age-identity FILE` where the identity is, "+
			"and `%[2]s keys writers add` with the result here", abbreviated(missing), program())
	}
}

// abbreviated lists recipients, some of which are very long.
func abbreviated(recipients []string) string {
	var short []string
	for _, r := range recipients {
		if len(r) > 80 {
			r = r[:80] + "…"
		}
		short = append(short, r)
	}
	return strings.Join(short, ", ")
}
