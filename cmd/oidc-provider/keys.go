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
		Args: exactArgs(),
		RunE: showHelp,
	}
	cmd.AddCommand(newKeysInitCommand(), newKeysListCommand(), newKeysRotateCommand(), newKeysRevokeCommand(),
		newKeysImportCommand(),
		newKeysCopiesCommand(), newKeysBackupCommand(), newKeysRestoreCommand(), newKeysResealCommand(), newKeysRBACCommand())
	return cmd
}

// printKeys prints what r is after a change.
func printKeys(w io.Writer, r *rotation.Ring) {
	at := r.At(time.Now())
	for i := range r.Keys {
		k := &r.Keys[i]
		switch k.Phase(at) {
		case rotation.Active:
			fmt.Fprintf(w, "  %s %s signs%s\n", k.KeyID, k.Algorithm, though(r, k))
		case rotation.Next:
			fmt.Fprintf(w, "  %s %s is next, and will sign %s\n", k.KeyID, k.Algorithm, when(r, k))
		case rotation.Retired:
			until := "until it is revoked"
			if t := k.RemoveAt(); !t.IsZero() {
				until = "until " + formatTime(t)
			}
			fmt.Fprintf(w, "  %s %s verifies %s%s\n", k.KeyID, k.Algorithm, until, though(r, k))
		}
	}
}

// though returns which copies may lack k, which is in use.
func though(r *rotation.Ring, k *rotation.Key) string {
	if lacking := r.Lacking(k); len(lacking) > 0 {
		return fmt.Sprintf(", though %s not confirmed it", copiesHave(lacking))
	}
	return ""
}

// when returns when k, which is next, will sign.
func when(r *rotation.Ring, k *rotation.Key) string {
	lacking, published := r.Lacking(k), !k.ConfirmedAt.IsZero()
	switch {
	case !k.SignFrom.IsZero():
		return "at " + formatTime(k.SignFrom) + though(r, k)
	case len(lacking) > 0 && published:
		return fmt.Sprintf("once %s had it for %v", copiesHave(lacking), k.PublishAhead)
	case len(lacking) > 0:
		return fmt.Sprintf("once a server has published it, and %s had it, for %v", copiesHave(lacking), k.PublishAhead)
	case !published:
		return "once a server has published it for " + k.PublishAhead.String()
	}
	return fmt.Sprintf("no sooner than %s, which a server is about to plan",
		formatTime(r.KnownSince(k).Add(time.Duration(k.PublishAhead))))
}

// copiesHave returns "copy a has", or "the copies a, b have".
func copiesHave(names []string) string {
	verb := " has"
	if len(names) > 1 {
		verb = " have"
	}
	return rotation.NameCopies(names) + verb
}

// waitsFor returns what the rotation to the next key waits for.
func waitsFor(w *rotation.Waiting) []string {
	list := []string{}
	if w.Server {
		list = append(list, "a server that publishes it")
	}
	for _, name := range w.Copies {
		list = append(list, "copy "+name)
	}
	return list
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
