package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/check"
	"oidc-provider/internal/describe"
	"oidc-provider/rotation"
)

func newKeysRotateCommand() *cobra.Command {
	var ring changeFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Let the next key sign from now on",
		Long: `Let the next key sign from now on, ahead of the schedule. That is safe once the
key has been published, and in every copy that the ring names, for as long as the
policy says (publish-ahead), and refused before; --force rotates anyway.`,
		Example: `  oidc-provider keys rotate --store /var/lib/oidc-provider`,
		Args:    exactArgs(),
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
  Relying parties that read such a copy reject new tokens until it has the key.
  What to do: update the copy now, and then run%s`,
			active.KeyID, describe.NotConfirmed(lacking), confirmCommands(lacking, storeArguments(cmd.Flags()), active.KeyID)))
	}
	if !active.ConfirmedAt.IsZero() && !active.SignFrom.Before(active.ConfirmedAt.Add(time.Duration(active.PublishAhead))) {
		return texts // it is published for long enough, and waited for copies
	}
	shown := active.ConfirmedAt
	since := "whose publication is confirmed since " + describe.Time(shown)
	if shown.IsZero() {
		shown, since = active.SignFrom, "whose publication no server has confirmed"
	}
	return append(texts, fmt.Sprintf(`key %s, %s, signs from now on.
  Relying parties that fetched the key set before it was published accept the new tokens
%s
  with the default max-age. All others that cache keys for less than publish-ahead accept them from %s.
  What to do: restart relying parties that fail, or wait.`,
		active.KeyID, since, newKeyDelays(shown), describe.Time(shown.Add(time.Duration(active.PublishAhead)))))
}

// confirmCommands returns a line for each of these copies, with the command that
// confirms that it has a key.
func confirmCommands(copies []string, arguments, kid string) (lines string) {
	for _, name := range copies {
		lines += fmt.Sprintf("\n    %s keys copies confirm%s %s %s", program(), arguments, name, kid)
	}
	return lines
}

// newKeyDelays returns from when relying parties by name accept the tokens of a key
// that was published at shown.
func newKeyDelays(shown time.Time) string {
	var lines []string
	for _, d := range check.NewKeyDelays() {
		switch until := shown.Add(d.After); {
		case d.After == check.UntilExpiry:
			lines = append(lines, item("only after a restart", d.Titles))
		case d.After == 0:
			lines = append(lines, item("at once, since an unknown kid makes them fetch", d.Titles))
		case until.After(time.Now()):
			lines = append(lines, item("from "+describe.Time(until), d.Titles))
		}
	}
	return strings.Join(lines, "\n")
}

// item returns an item of a list: a time and the relying parties that it is for.
func item(when string, titles []string) string {
	return "  - " + indented(when+": "+strings.Join(titles, ", "))
}

// indented breaks text into lines, and indents all but the first.
func indented(text string) string { return strings.ReplaceAll(wrap(text, 96), "\n", "\n    ") }
