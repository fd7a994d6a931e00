package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/publish"
	"oidc-provider/rotation"
)

func newKeysRevokeCommand() *cobra.Command {
	var ring ringFlags
	cmd := &cobra.Command{
		Use:   "revoke KID",
		Short: "Remove a key from the key set at once and for good",
		Long: `Remove a key from the key set at once and for good. Its tokens do not verify any
more at relying parties that fetch the key set again. If the key was
active, the next one signs from now on.

Removal is not revocation: a relying party that has cached the key set keeps
accepting the key until its cache expires. The command prints when that is. Remove
the key from registered copies yourself.`,
		Example: `  oidc-provider keys revoke JvL9VBeh-uFhN5rvHhxuhbREw1XFUw2IhH26RaIQqjE`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			var events []rotation.Event
			r, err := s.Update(cmd.Context(), func(r *rotation.Ring) (next *rotation.Ring, err error) {
				next, events, err = rotation.Revoke(r, args[0], time.Now(), rotation.GenerateKey)
				return next, err
			})
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if len(events) == 0 {
				fmt.Fprintf(out, "Key %s is revoked already.\n", args[0])
				return nil
			}
			if len(events) > 1 { // the standby took over
				warnOfForced(cmd, r)
			}
			fmt.Fprintf(out, "Revoked %s. What is left:\n", args[0])
			printKeys(out, r)
			warnOfCopies(cmd, r, args[0])
			now := time.Now()
			fmt.Fprintf(out, `
Relying parties may have cached the revoked key:
  - those that keep to max-age until %s, with the default of 5m
  - Istio and Envoy until %s, nginx and .NET until %s, lua-resty-openidc until %s
  - go-oidc and MinIO until an unknown kid makes them fetch, or they are restarted
What to do: restart or flush the relying parties that matter, and have workloads get new tokens.
`, formatTime(now.Add(5*time.Minute)), formatTime(now.Add(20*time.Minute)), formatTime(now.Add(12*time.Hour)), formatTime(now.Add(24*time.Hour)))
			return nil
		},
	}
	ring.add(cmd)
	return cmd
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
	warn(cmd, "%s may still have the revoked key: relying parties that read the copy accept it until it is removed there "+
		"(hint: update the copy with the key set now, %s)",
		rotation.NameCopies(names), publish.KeySetURL(r))
}
