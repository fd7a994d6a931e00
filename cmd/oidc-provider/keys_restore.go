package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/input"
	"oidc-provider/internal/witness"
	"oidc-provider/rotation"
)

func newKeysRestoreCommand() *cobra.Command {
	var ring ringFlags
	var witnesses witness.Config
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup into an empty store",
		Long: `Put a backup that 'keys backup' has made, or - for standard input, into an empty
store. Its keys stay sealed as they are. A store that holds anything already is
left as it is.

Keys that were created after the backup are not in it, and their tokens verify only
while these keys are published. Therefore the command first compares the backup with
the key set that the issuer, or a --witness, publishes, and refuses a backup that
lacks one of its keys. If the newer ring is lost for good, restore with --witness
none, add the missing keys with 'keys import', and revoke again what was revoked,
before the servers start.`,
		Example: `  oidc-provider keys restore backup.json --store etcd://127.0.0.1:2379/oidc-provider

  # The newer ring is lost for good
  curl https://oidc.example.com/openid/v1/jwks > shown.json
  oidc-provider keys restore backup.json --witness none
  oidc-provider keys import shown.json`,
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readInput(cmd, args[0], maxInput)
			if err != nil {
				return err
			}
			if len(data) == 0 {
				return fmt.Errorf("%s is empty, not a backup", args[0])
			}
			r, err := rotation.DecodeBackup(data)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			seen, err := witnesses.Ask(cmd.Context(), r.Issuer, func(url string, err error) {
				warn(cmd, "%s could not be asked for newer keys: %v", url, err)
			})
			if err != nil {
				return err
			}
			if err := witness.Check(r, seen, time.Now(), func(w string) { warn(cmd, "%s", w) }); err != nil {
				return fmt.Errorf("%s was not restored: %w", args[0], err)
			}
			if !r.Signed() && s.Sealer.HasIdentity() {
				warn(cmd, "the backup is not signed, and is signed now: make sure that its keys are yours")
			}
			if r, err = rotation.Restored(cmd.Context(), r, s.Access, time.Now()); err != nil {
				return fmt.Errorf("%s was not restored: %w", args[0], err)
			}
			if signers := r.Signers(); len(signers) > 0 && s.Access.Verify(cmd.Context(), r) != nil {
				warn(cmd, "the backup is signed by %s, for whom no identity here vouches: make sure that it is yours", signers[0])
			}
			if err := s.Create(cmd.Context(), r); err != nil {
				return err
			}
			if _, err := r.Unseal(cmd.Context(), s.Sealer); err != nil {
				warn(cmd, "the servers need what opens the keys: %v", err)
			}
			if w := s.PlainWarning(r); w != "" {
				warn(cmd, "%s", w)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Restored generation %d of the ring of %s, of %s, %s:\n", r.Generation, r.Issuer,
				describe.Time(r.Updated), describe.Sealing(r))
			describe.Keys(cmd.OutOrStdout(), r, time.Now())
			return nil
		},
	}
	ring.add(cmd)
	addWitnessFlags(cmd.Flags(), &witnesses.URLs, &witnesses.CAFile)
	return cmd
}

// maxInput, in bytes, is far above the size of any ring or file with keys.
const maxInput = 64 << 20

// readInput reads a file of at most limit bytes, or standard input for -. The file
// may be a pipe.
func readInput(cmd *cobra.Command, name string, limit int64) ([]byte, error) {
	from := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	data, err := input.ReadAtMost(from, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return data, nil
}

// sealing returns how the private keys of r are stored, in words.
