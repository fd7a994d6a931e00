package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/seal"
	"oidc-provider/rotation"
)

func newKeysWritersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "writers",
		Aliases: []string{"writer"},
		Short:   "Show, add and remove the writers of a signed ring",
		Long: `Show, add and remove the writers of a signed ring: those whose signature servers and
commands accept.

A writer is an age identity or a KMS plugin. The key that it signs with is derived
from it: it needs no file of its own. An identity for which the ring is sealed is a
writer from the beginning. An operator can have one that opens no key and
may still change the ring, or one that may only revoke keys, for emergencies.`,
		Args: exactArgs(),
		RunE: showHelp,
	}
	cmd.AddCommand(newWritersListCommand(), newWritersAddCommand(), newWritersRemoveCommand(), newWritersIDCommand())
	return cmd
}

var writerColumns = []string{"ID", "NAME", "MAY", "SINCE"}

// writerInfo is a writer as `keys writers list -o json` shows it.
type writerInfo struct {
	ID         rotation.WriterID `json:"id"`
	Name       string            `json:"name"`
	RevokeOnly bool              `json:"revokeOnly"`
	Since      time.Time         `json:"since"`
	// EndorsedBy are the writers that vouch for it.
	EndorsedBy []rotation.WriterID `json:"endorsedBy"`
}

func writerRows(r *rotation.Ring, now time.Time) (rows [][]string) {
	for _, w := range r.Writers {
		may := "change"
		if w.RevokeOnly {
			may = "revoke"
		}
		rows = append(rows, []string{w.ID.String(), abbreviated([]string{w.Name}), may, describe.Relative(w.Since, now)})
	}
	return rows
}

func newWritersListCommand() *cobra.Command {
	var ring ringFlags
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show who may sign the ring, and who has signed it last",
		Long: `Show who may sign the ring, and who has signed it last. It needs no private key, and
so shows what the ring says of itself. With --age-identity, --kms-socket or
--ring-signer it also verifies that.`,
		Example: `  oidc-provider keys writers list
  oidc-provider keys writers list -o json | jq -r '.writers[] | select(.revokeOnly | not).id'`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			r, err := s.ReadTrusted(cmd.Context())
			if err != nil {
				return err
			}
			verified := s.Sealer.HasIdentity() || len(s.Access.Signers) > 0
			if output.structured() {
				info := map[string]any{"issuer": r.Issuer, "writers": listWriters(r), "removed": nonNil(r.RemovedWriters),
					"signedBy": nonNil(r.Signers()), "verified": verified}
				return output.write(cmd.OutOrStdout(), info)
			}
			if !r.Signed() {
				fmt.Fprintf(cmd.ErrOrStderr(), "The ring of %s is not signed: `%s keys sign` signs it.\n", r.Issuer, program())
				return nil
			}
			if err := writeTable(cmd.OutOrStdout(), writerColumns, writerRows(r, time.Now())); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "\nGeneration %d was signed by %s", r.Generation, r.Signers()[0])
			for _, id := range r.Signers()[1:] {
				fmt.Fprintf(cmd.OutOrStdout(), " and %s", id)
			}
			fmt.Fprintln(cmd.OutOrStdout(), ".")
			if !verified {
				fmt.Fprintf(cmd.ErrOrStderr(), "This is what the ring says: add --age-identity or --ring-signer to verify it.\n")
			}
			return nil
		},
	}
	ring.add(cmd)
	output.add(cmd, "table")
	return cmd
}

// nonNil makes JSON show an empty list as [].
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func listWriters(r *rotation.Ring) []writerInfo {
	list := []writerInfo{}
	for _, w := range r.Writers {
		info := writerInfo{w.ID, w.Name, w.RevokeOnly, w.Since, []rotation.WriterID{}}
		for _, e := range w.Endorsements {
			info.EndorsedBy = append(info.EndorsedBy, e.Writer)
		}
		list = append(list, info)
	}
	return list
}

func newWritersAddCommand() *cobra.Command {
	var ring changeFlags
	var revokeOnly bool
	cmd := &cobra.Command{
		Use:   "add ID NAME",
		Short: "Let another identity sign the ring",
		Long: `Let another identity sign the ring. ID is what 'keys writers id' prints where that
identity is. It takes an identity of a writer, which vouches for the new one.

With --revoke-only, the new writer can only take keys away: 'keys revoke' with its
identity works without any other, also while no server runs. Keep such an identity
where it can be reached in an emergency.`,
		Example: `  # An operator who may rotate and revoke, and opens no private key
  age-keygen -o operator.txt
  oidc-provider keys writers id --age-identity operator.txt
  oidc-provider keys writers add ed25519:… operator --age-identity /etc/oidc-provider/identity.txt

  # An identity for emergencies
  oidc-provider keys writers add ed25519:… break-glass --revoke-only --age-identity /etc/oidc-provider/identity.txt`,
		Args: exactArgs("ID", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := rotation.ParseWriterID(args[0])
			if err != nil {
				return err
			}
			w := rotation.Writer{ID: id, Name: args[1], RevokeOnly: revokeOnly}
			return changeWriters(cmd, &ring, func(r *rotation.Ring, s rotation.Sealer) (*rotation.Ring, error) {
				return rotation.AddWriter(cmd.Context(), r, s, w, time.Now())
			})
		},
	}
	ring.add(cmd)
	cmd.Flags().BoolVar(&revokeOnly, "revoke-only", false, "let it revoke keys, and nothing else")
	return cmd
}

func newWritersRemoveCommand() *cobra.Command {
	var ring changeFlags
	cmd := &cobra.Command{
		Use:   "remove ID|NAME",
		Short: "Let an identity no longer sign the ring, for good",
		Long: `Let an identity no longer sign the ring. It never becomes a writer again. It takes an
identity of another writer.

Servers that run, and those with rollback state, refuse its signature from now on. A
server that starts without rollback state cannot know of the removal if it is shown
an older ring, which the removed writer had signed.`,
		Example: `  oidc-provider keys writers remove operator --age-identity /etc/oidc-provider/identity.txt`,
		Args:    exactArgs("ID|NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeWriters(cmd, &ring, func(r *rotation.Ring, s rotation.Sealer) (*rotation.Ring, error) {
				return rotation.RemoveWriter(cmd.Context(), r, s, args[0], time.Now())
			})
		},
	}
	ring.add(cmd)
	return cmd
}

// changeWriters changes the writers of a ring, and prints who they are then.
func changeWriters(cmd *cobra.Command, ring *changeFlags,
	change func(*rotation.Ring, rotation.Sealer) (*rotation.Ring, error)) error {
	s, err := ring.open(cmd)
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := s.Update(cmd.Context(), func(r *rotation.Ring) (*rotation.Ring, error) { return change(r, s.Sealer) })
	if err != nil {
		return err
	}
	return writeTable(cmd.OutOrStdout(), writerColumns, writerRows(r, time.Now()))
}

func newWritersIDCommand() *cobra.Command {
	var cfg seal.Config
	cmd := &cobra.Command{
		Use:   "id --age-identity FILE",
		Short: "Print the ID that an identity has as a writer",
		Long: `Print the ID that an age identity has as a writer. It is public: it is what 'keys
writers add' takes, and ringSigners of a server that only publishes.`,
		Example: `  oidc-provider keys writers id --age-identity operator.txt`,
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(cfg.IdentityFiles) == 0 {
				return errors.New("--age-identity is required: the file of an identity, as age-keygen writes it")
			}
			sealer, err := seal.New(cfg)
			if err != nil {
				return err
			}
			defer sealer.Close()
			keys, err := sealer.WriterKeys(cmd.Context(), nil)
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				return hint.Errorf("age-keygen -o FILE makes one", "no identity was given")
			}
			for _, key := range keys {
				fmt.Fprintln(cmd.OutOrStdout(), key.ID())
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&cfg.IdentityFiles, "age-identity", nil,
		"`FILE` with the age identity; may be given several times")
	return cmd
}
