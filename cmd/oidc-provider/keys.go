package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/rotation"
)

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, show and change the keys in a store",
		Long: `Make, show and change the keys in a store.

These commands work on the store itself. A server that runs on it notices every
change within two seconds.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeysInitCommand(), newKeysListCommand(), newKeysRotateCommand(), newKeysRevokeCommand(), newKeysImportCommand(),
		newKeysExportCommand(), newKeysRestoreCommand(), newKeysResealCommand(), newKeysRBACCommand())
	return cmd
}

// printKeys says in words what r is now, for somebody who has just changed it.
func printKeys(w io.Writer, r *rotation.Ring) {
	at := r.At(time.Now())
	for i := range r.Keys {
		k := &r.Keys[i]
		switch k.Phase(at) {
		case rotation.Active:
			fmt.Fprintf(w, "  %s %s signs\n", k.KeyID, k.Algorithm)
		case rotation.Next:
			when := "once a server has published it for " + k.PublishAhead.String()
			if !k.SignFrom.IsZero() {
				when = "at " + formatTime(k.SignFrom)
			}
			fmt.Fprintf(w, "  %s %s is next, and will sign %s\n", k.KeyID, k.Algorithm, when)
		case rotation.Retired:
			until := "until it is revoked"
			if t := k.RemoveAt(); !t.IsZero() {
				until = "until " + formatTime(t)
			}
			fmt.Fprintf(w, "  %s %s verifies %s\n", k.KeyID, k.Algorithm, until)
		}
	}
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
