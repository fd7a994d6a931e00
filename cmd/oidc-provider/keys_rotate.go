package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/rotation"
)

func newKeysRotateCommand() *cobra.Command {
	var ring ringFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Let the next key sign from now on",
		Long: `Let the next key sign from now on, ahead of the schedule. That is safe once the
key has been published, and in every copy that the ring names, for as long as the
policy says (publish-ahead), and refused before; --force rotates anyway.`,
		Example: `  oidc-provider keys rotate --store /var/lib/oidc-provider`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			r, err := s.Update(cmd.Context(), func(r *rotation.Ring) (*rotation.Ring, error) {
				next, _, err := rotation.Rotate(r, time.Now(), force, rotation.GenerateKey)
				return next, err
			})
			if err != nil {
				return err
			}
			warnOfForced(cmd, r)
			fmt.Fprintln(cmd.OutOrStdout(), "Rotated:")
			describe.Keys(cmd.OutOrStdout(), r, time.Now())
			return nil
		},
	}
	ring.add(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "rotate even if relying parties may not know the next key yet")
	return cmd
}

// warnOfForced warns if the active key of r signs before every relying party
// could know it.
func warnOfForced(cmd *cobra.Command, r *rotation.Ring) {
	for _, text := range consequences(cmd, r) {
		warn(cmd, "%s", text)
	}
}

// consequences returns who may fail, and until when, if the active key of r signs
// before every relying party could know it.
func consequences(cmd *cobra.Command, r *rotation.Ring) (texts []string) {
	active := r.Active(r.At(time.Now()))
	if !active.Forced {
		return nil
	}
	if lacking := r.Lacking(active); len(lacking) > 0 {
		texts = append(texts, fmt.Sprintf(`key %s signs from now on, and %s.
  Relying parties that read the copy reject new tokens until it has the key.
  What to do: update the copy now, and then run %s keys copies confirm%s %s %s`,
			active.KeyID, describe.NotConfirmed(lacking), program(), storeArguments(cmd.Flags()), lacking[0], active.KeyID))
	}
	if !active.ConfirmedAt.IsZero() && !active.SignFrom.Before(active.ConfirmedAt.Add(time.Duration(active.PublishAhead))) {
		return texts // it is published for long enough, and waited for copies
	}
	shown, ahead := active.ConfirmedAt, time.Duration(active.PublishAhead)
	since := "whose publication is confirmed since " + describe.Time(shown)
	if shown.IsZero() {
		shown, since = active.SignFrom, "whose publication no server has confirmed"
	}
	return append(texts, fmt.Sprintf(`key %s, %s, signs from now on.
  Relying parties that fetched the key set before it was shown reject new tokens until they fetch it again:
  - those that refetch on an unknown kid do at once (go-oidc, Vault, Spring, jose, PyJWT)
  - those that keep to max-age do by %s with the default of 5m (Envoy, whose cache lives 10m, by %s)
  - all that cache within publish-ahead do by %s (nginx and .NET hold it for up to 12h)
  What to do: restart relying parties that fail, or wait.`,
		active.KeyID, since, describe.Time(shown.Add(5*time.Minute)), describe.Time(shown.Add(10*time.Minute)), describe.Time(shown.Add(ahead))))
}
