package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

func newKeysBackupCommand() *cobra.Command {
	var ring ringFlags
	var seal recipientFlag
	var plain bool
	cmd := &cobra.Command{
		Use:        "backup [FILE]",
		SuggestFor: []string{"export", "save"},
		Short:      "Write a sealed backup of the ring",
		Long: `Write a backup of the ring to a file that does not exist yet, or to standard
output. It is a ring document itself: everything but the private keys can be read
in it.

The private keys stay sealed as they are in the store, which takes no identity,
or are sealed for --recipient instead, which takes one that opens them. A ring
that is plain needs --recipient, or --plain if that is really meant.`,
		Example: `  # A backup that the same identities open
  oidc-provider keys backup ring-2026-01-31.json --store etcd://127.0.0.1:2379/oidc-provider

  # A backup for an identity in a safe
  oidc-provider keys backup --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p > backup.json`,
		Args: minimumArgs(0, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if plain && seal.recipients != nil {
				return errors.New("--plain and --recipient exclude each other")
			}
			if err := seal.check(); err != nil {
				return err
			}
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			s.Access.AllowUnsigned = true // a backup of an unsigned ring is not signed either
			r, err := s.ReadTrusted(cmd.Context())
			if err != nil {
				return err
			}
			if !plain && seal.recipients == nil && len(r.Recipients) == 0 {
				return hint.Errorf("add --recipient with an age recipient, which age-keygen makes; --plain writes it anyway",
					"the private keys of this ring are plain, and so would be the backup")
			}
			data, err := r.Encode()
			if plain || seal.recipients != nil {
				data, err = rotation.Backup(cmd.Context(), r, seal.recipients, s.Sealer)
			}
			if err != nil {
				return err
			}
			if len(args) == 0 || args[0] == "-" {
				_, err = cmd.OutOrStdout().Write(data)
				return err
			}
			if err := writeBackup(args[0], data); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Wrote generation %d of the ring of %s, of %s, to %s, %s.\n",
				r.Generation, r.Issuer, describe.Time(r.Updated), args[0], sealedFor(r, plain, seal.recipients))
			return nil
		},
	}
	ring.add(cmd)
	seal.add(cmd.Flags(), "seal the backup for")
	cmd.Flags().BoolVar(&plain, "plain", false, "write private keys that anyone who reads the backup can use")
	return cmd
}

// sealedFor says how the private keys of a backup are stored, in words.
func sealedFor(r *rotation.Ring, plain bool, recipients []string) string {
	backup := *r
	if plain || recipients != nil {
		backup.Recipients = recipients
	}
	return describe.Sealing(&backup)
}

// writeBackup replaces no file: an existing one may be the last copy of something.
func writeBackup(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return hint.Errorf("name another file", "%s exists and was left unchanged", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
