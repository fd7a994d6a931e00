// Package describe puts a ring into words, for commands, logs and health
// checks.
package describe

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

// Time returns t in RFC 3339, in UTC.
func Time(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Duration returns d without the zeros at its end: 24h for 24h0m0s.
func Duration(d rotation.Duration) string {
	s := d.String()
	if short, ok := strings.CutSuffix(s, "m0s"); ok {
		s = short + "m"
	}
	if short, ok := strings.CutSuffix(s, "h0m"); ok {
		s = short + "h"
	}
	return s
}

// Relative returns t as seen from now: "in 30d" or "5m ago".
func Relative(t, now time.Time) string {
	if t.After(now) {
		return "in " + duration.HumanDuration(t.Sub(now))
	}
	return duration.HumanDuration(now.Sub(t)) + " ago"
}

// Keys writes a line for each key of r that is not revoked.
func Keys(w io.Writer, r *rotation.Ring, now time.Time) {
	at := r.At(now)
	for i := range r.Keys {
		k := &r.Keys[i]
		if phase := k.Phase(at); k.Published() {
			fmt.Fprintf(w, "  %s %s %s\n", k.KeyID, k.Algorithm, doing(r, k, phase))
		}
	}
}

// doing returns what the key k of r does.
func doing(r *rotation.Ring, k *rotation.Key, phase rotation.Phase) string {
	switch phase {
	case rotation.Next:
		return "is next, and will sign " + signsFrom(r, k)
	case rotation.Active:
		return "signs" + unconfirmed(r, k)
	case rotation.VerifyOnly:
		return "verifies until it is revoked" + unconfirmed(r, k)
	}
	return "verifies until " + Time(k.RemoveAt()) + unconfirmed(r, k)
}

// unconfirmed returns which copies may lack k, a key that is in use.
func unconfirmed(r *rotation.Ring, k *rotation.Key) string {
	if lacking := r.Lacking(k); len(lacking) > 0 {
		return ", but " + NotConfirmed(lacking)
	}
	return ""
}

// signsFrom returns when k, which is next, will sign.
func signsFrom(r *rotation.Ring, k *rotation.Key) string {
	lacking, published := r.Lacking(k), !k.ConfirmedAt.IsZero()
	switch {
	case !k.SignFrom.IsZero():
		return "at " + Time(k.SignFrom) + unconfirmed(r, k)
	case len(lacking) > 0 && published:
		return fmt.Sprintf("%s after %s confirmed it", Duration(k.PublishAhead), has(lacking))
	case len(lacking) > 0:
		return fmt.Sprintf("%s after a server has published it and %s confirmed it", Duration(k.PublishAhead), has(lacking))
	case !published:
		return fmt.Sprintf("%s after a server has published it, or later", Duration(k.PublishAhead))
	}
	return fmt.Sprintf("at %s or later: a server is about to plan it",
		Time(r.KnownSince(k).Add(time.Duration(k.PublishAhead))))
}

// NotConfirmed returns that these copies have not confirmed a key: "copy a has
// not confirmed it".
func NotConfirmed(copies []string) string { return has(copies) + " not confirmed it" }

// has returns "copy a has", or "the copies a, b have".
func has(copies []string) string {
	verb := " has"
	if len(copies) > 1 {
		verb = " have"
	}
	return rotation.NameCopies(copies) + verb
}

// WaitsFor returns what a rotation waits for, as a list of nouns.
func WaitsFor(w *rotation.Waiting) []string {
	list := []string{}
	if w.Server {
		list = append(list, "a server that publishes it")
	}
	for _, name := range w.Copies {
		list = append(list, "copy "+name)
	}
	return list
}

// Sealing returns how the private keys of r are stored.
func Sealing(r *rotation.Ring) string {
	switch n := len(r.Recipients); n {
	case 0:
		return "with plain private keys"
	case 1:
		return "sealed for 1 recipient"
	default:
		return fmt.Sprintf("sealed for %d recipients", n)
	}
}

// NextRotation returns when the next rotation is. It is an error if it is not
// planned, or if copies may lack a key that does not wait for them.
func NextRotation(r *rotation.Ring, at time.Time) (string, error) {
	active, standby, w := r.Active(at), r.Standby(at), r.Waiting(at)
	var planned string
	var wrong []string
	if lacking := r.Lacking(active); len(lacking) > 0 {
		wrong = append(wrong, fmt.Sprintf("%s signs, and %s", active.KeyID, NotConfirmed(lacking)))
	}
	switch {
	case w != nil && len(w.Copies) > 0:
		due := "is due at"
		if !at.Before(w.Due) {
			due = "was due at"
		}
		wrong = append(wrong, fmt.Sprintf("the rotation to %s %s %s and waits for %s, while the active key signs",
			w.KeyID, due, Time(w.Due), strings.Join(WaitsFor(w), ", ")))
	case standby == nil || standby.SignFrom.IsZero():
		return "", errors.New(strings.Join(append(wrong, "the next rotation is not planned yet"), "; "))
	default:
		planned = fmt.Sprintf("%s signs from %s", standby.KeyID, Time(standby.SignFrom))
		if lacking := r.Lacking(standby); len(lacking) > 0 {
			wrong = append(wrong, planned+", and "+NotConfirmed(lacking))
		}
	}
	if len(wrong) == 0 {
		return planned, nil
	}
	kid := active.KeyID
	if standby != nil {
		kid = standby.KeyID
	}
	return "", hint.Errorf("update the copies, and then run `oidc-provider keys copies confirm COPY "+kid+"` on this "+
		"store", "%s", strings.Join(wrong, "; "))
}
