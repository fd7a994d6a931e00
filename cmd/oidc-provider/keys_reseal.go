package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

func newKeysResealCommand() *cobra.Command {
	var ring changeFlags
	var seal recipientFlag
	var plain, force bool
	cmd := &cobra.Command{
		Use:   "reseal --recipient RECIPIENT",
		Short: "Seal the private keys for other recipients",
		Long: `Seal the private keys of a ring for other recipients, in place of those before.
It takes an identity that opens them now, and, unless --force is given, one that
opens them afterwards: keys that no identity opens are lost.

The identities of new recipients that are given become writers of the ring, and those
of recipients that are left out are removed from the writers for good.

To change the identity of running servers, in this order: restart every server with
the old and the new identity, seal for both recipients, seal for the new one alone
once no /readyz?verbose reports a problem under rotation, and restart every server
with the new identity alone.

A ring that was plain gets sealed the same way; but old backups, and the history
that etcd keeps until it is compacted, hold the plain keys. Who has these can
forge tokens until the keys are removed or revoked.`,
		Example: `  # From one identity to the next
  oidc-provider keys reseal --age-identity old.txt --age-identity new.txt --recipient age1old… --recipient age1new…
  oidc-provider keys reseal --age-identity new.txt --recipient age1new…

  # For the cluster's KMS plugin, and for an identity in a safe
  oidc-provider keys reseal --kms-socket /run/kms.sock --recipient kms --recipient age1safe…`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case plain && seal.recipients != nil:
				return errors.New("--plain and --recipient exclude each other")
			case !plain && seal.recipients == nil:
				return hint.Errorf("age-keygen makes an identity and prints its recipient",
					"--recipient is required: for whom to seal the keys")
			}
			if err := seal.check(); err != nil {
				return err
			}
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			allowed := s.Access.AllowUnsigned
			s.Access.AllowUnsigned = true // the keys of a plain ring are sealed here, and the ring is signed
			var before []string
			r, err := s.Update(cmd.Context(), func(r *rotation.Ring) (*rotation.Ring, error) {
				before = r.Recipients
				if !allowed && !r.Signed() && len(r.Recipients) > 0 && s.Sealer.HasIdentity() {
					return r, hint.Errorf("check its keys with `oidc-provider keys list`, and run `oidc-provider keys sign` first",
						"the ring is not signed")
				}
				return reseal(cmd, s, r, seal.recipients, force)
			})
			if err != nil {
				return err
			}
			if w := s.PlainWarning(r); w != "" {
				warn(cmd, "%s", w)
			}
			if len(before) == 0 && !plain {
				warnError(cmd, hint.Errorf(fmt.Sprintf("if that matters, run `%s keys rotate` twice, as soon as it allows, "+
					"and then `keys revoke` for the keys that were plain", program()),
					"the keys were plain until now: anyone with an old backup, or with the history of the store, can sign "+
						"tokens until they are removed"))
			}
			warnOfRecipients(cmd, r)
			fmt.Fprintf(cmd.OutOrStdout(), "The keys of %s were sealed for %s, and are sealed for %s.\n", r.Issuer,
				names(before), names(r.Recipients))
			return nil
		},
	}
	ring.add(cmd)
	seal.add(cmd.Flags(), "seal the keys for")
	cmd.Flags().BoolVar(&plain, "plain", false, "leave the private keys plain, for a store that no other user can read")
	cmd.Flags().BoolVar(&force, "force", false, "seal for recipients that cannot be opened here")
	return cmd
}

func reseal(cmd *cobra.Command, s *store.Handle, r *rotation.Ring, recipients []string, force bool) (*rotation.Ring,
	error) {
	if slices.Equal(r.Recipients, recipients) && len(recipients) == 0 {
		return r, nil
	}
	open, err := r.Unseal(cmd.Context(), s.Sealer)
	if err != nil {
		return r, err
	}
	next, err := rotation.Enroll(cmd.Context(), open, s.Sealer, recipients, time.Now())
	if err == nil && !next.Signed() && len(recipients) > 0 {
		err = hint.Errorf("add --age-identity with the file of a new recipient, or --kms-socket for kms",
			"a ring that is sealed is also signed, and there is nothing to sign it with")
	}
	if err == nil {
		next, err = rotation.Reseal(next, recipients, time.Now())
	}
	if err != nil {
		return r, err
	}
	if next, err = next.Seal(cmd.Context(), s.Sealer); err != nil || force {
		return next, err
	}
	data, err := next.Encode()
	if err != nil {
		return r, err
	}
	back, err := rotation.Decode(data)
	if err != nil {
		return r, err
	}
	if _, err := back.Unseal(cmd.Context(), s.Sealer); err != nil {
		return r, hint.Wrap(fmt.Errorf("nothing was changed, since the keys could not be opened afterwards: %w", err),
			"add {ageIdentities} with the identity of a new recipient; --force seals them anyway")
	}
	return next, nil
}

func names(recipients []string) string {
	if len(recipients) == 0 {
		return "no recipient (plain)"
	}
	return strings.Join(recipients, ", ")
}
