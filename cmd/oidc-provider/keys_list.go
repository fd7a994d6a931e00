package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/rotation"
)

func newKeysListCommand() *cobra.Command {
	var ring ringFlags
	var output outputFlag
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "Show the keys in a store",
		Long: `Show the keys in a store and their phases:

  next     published, will sign
  active   signs
  retired  published until its last token has expired
  revoked  neither

SINCE is when that phase began and UNTIL when it ends. For a key that is next,
<unplanned> means that its rotation waits for a server that publishes it, or for
copies of the key set: see 'keys copies'. What it waits for is below the table, and
waitsFor in the JSON. It needs no private key: sealed keys stay sealed.`,
		Example: `  oidc-provider keys list
  oidc-provider keys list -o json | jq -r '.keys[] | select(.phase == "active").kid'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := ring.openWithoutKeys(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			r, err := s.Read(cmd.Context())
			if err != nil {
				return err
			}
			now := time.Now()
			if err := r.CheckClock(now); err != nil {
				warn(cmd, "%v", err)
			}
			keys := listKeys(r, r.At(now))
			if output.structured() {
				info := ringInfo{Issuer: r.Issuer, Policy: r.Policy, Keys: keys}
				if next := r.Standby(r.At(now)); next != nil && !next.SignFrom.IsZero() {
					info.NextRotation = &next.SignFrom
				}
				return output.write(cmd.OutOrStdout(), info)
			}
			if err := printKeyTable(cmd, keys); err != nil {
				return err
			}
			printWaiting(cmd, r, r.At(now))
			return nil
		},
	}
	ring.add(cmd)
	output.add(cmd, "table")
	return cmd
}

// ringInfo is a ring as `keys list -o json` shows it.
type ringInfo struct {
	Issuer       string          `json:"issuer"`
	Policy       rotation.Policy `json:"policy"`
	NextRotation *time.Time      `json:"nextRotation"` // null if it is not planned yet
	Keys         []keyInfo       `json:"keys"`
}

// keyInfo is a key as `keys list -o json` shows it: times in RFC 3339, null
// where they are open.
type keyInfo struct {
	KeyID       string         `json:"kid"`
	Algorithm   string         `json:"algorithm"`
	Phase       rotation.Phase `json:"phase"`
	Created     *time.Time     `json:"created"`
	PublishAt   *time.Time     `json:"publishAt"`
	ConfirmedAt *time.Time     `json:"confirmedAt"`
	SignFrom    *time.Time     `json:"signFrom"`
	SignUntil   *time.Time     `json:"signUntil"`
	RemoveAt    *time.Time     `json:"removeAt"`
	RevokedAt   *time.Time     `json:"revokedAt"`
	// Forced keys signed before they were published for publish-ahead: the first of
	// a ring, and those of emergencies.
	Forced bool `json:"forced"`
	// InDiscovery keys are in the key set.
	InDiscovery bool `json:"inDiscovery"`
	// WaitsFor is what keeps the rotation to a next key from being planned.
	WaitsFor []string `json:"waitsFor"`
	// Private is how the private half is stored: plain, sealed or none.
	Private string `json:"private"`
}

func private(k *rotation.Key) string {
	switch {
	case len(k.Sealed) > 0:
		return "sealed"
	case len(k.Private) > 0:
		return "plain"
	}
	return "none"
}

func listKeys(r *rotation.Ring, at time.Time) []keyInfo {
	open := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	list := []keyInfo{}
	waiting := r.Waiting(at)
	for i := range r.Keys {
		k := &r.Keys[i]
		waits := []string{}
		if waiting != nil && waiting.KeyID == k.KeyID {
			waits = waitsFor(waiting)
		}
		list = append(list, keyInfo{
			KeyID: k.KeyID, Algorithm: string(k.Algorithm), Phase: k.Phase(at),
			Created: open(k.Created), PublishAt: open(k.PublishAt), ConfirmedAt: open(k.ConfirmedAt),
			SignFrom: open(k.SignFrom), SignUntil: open(k.SignUntil), RemoveAt: open(k.RemoveAt()), RevokedAt: open(k.RevokedAt),
			Forced: k.Forced, InDiscovery: k.InKeySet(), WaitsFor: waits, Private: private(k),
		})
	}
	return list
}

func printKeyTable(cmd *cobra.Command, keys []keyInfo) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "KID\tALGORITHM\tPHASE\tSINCE\tUNTIL")
	for _, k := range keys {
		since, until, open := k.SignFrom, k.SignUntil, "<none>"
		switch k.Phase {
		case rotation.Next:
			since, until, open = k.PublishAt, k.SignFrom, "<unplanned>"
		case rotation.Retired:
			since, until = k.SignUntil, k.RemoveAt
			if since == nil {
				since = k.PublishAt
			}
		case rotation.Revoked:
			since, until = k.RevokedAt, k.RemoveAt
		}
		end := open
		if until != nil {
			end = formatTime(*until)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.KeyID, k.Algorithm, k.Phase, formatTime(*since), end)
	}
	return w.Flush()
}

// printWaiting prints what the next rotation waits for, and which copies may lack a
// key that does not wait for them.
func printWaiting(cmd *cobra.Command, r *rotation.Ring, at time.Time) {
	out := cmd.OutOrStdout()
	if w := r.Waiting(at); w != nil {
		fmt.Fprintf(out, "\nThe next key waits for %s. Until then the active key signs.\n", strings.Join(waitsFor(w), ", "))
		if len(w.Copies) > 0 {
			late := "The schedule is kept if it is there by"
			if at.After(w.By) {
				late = "It is late: the schedule wants it there by"
			}
			fmt.Fprintf(out, "%s %s. Bring it to %s, and then run `%s keys copies confirm%s %s %s`.\n",
				late, formatTime(w.By), rotation.NameCopies(w.Copies), program(), storeArguments(cmd.Flags()), w.Copies[0], w.KeyID)
		}
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		lacking := r.Lacking(k)
		switch phase := k.Phase(at); {
		case len(lacking) == 0:
		case phase == rotation.Next && !k.SignFrom.IsZero():
			fmt.Fprintf(out, "\nKey %s signs from %s, and %s not confirmed it.\n", k.KeyID, formatTime(k.SignFrom),
				copiesHave(lacking))
		case phase == rotation.Active:
			fmt.Fprintf(out, "\nKey %s signs, and %s not confirmed it.\n", k.KeyID, copiesHave(lacking))
		}
	}
}
