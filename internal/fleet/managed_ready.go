package fleet

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

var errNotRead = errors.New("the ring has not been read yet")

// checks implements [source].
func (m *managed) checks() []web.Check {
	return []web.Check{
		{Name: "keys", Run: m.checkKeys},
		{Name: "rotation", Advisory: true, Run: m.checkRotation},
	}
}

func (m *managed) checkKeys() (string, error) {
	rotator, reason := m.rotator.Load(), m.waiting.Load()
	switch {
	case rotator == nil && reason != nil:
		return "", fmt.Errorf("%w: %w", errNotRead, *reason)
	case rotator == nil:
		return "", errNotRead
	case reason != nil:
		return "", *reason
	}
	now := time.Now()
	if err := rotator.Ready(now); err != nil {
		return "", err
	}
	ring := rotator.View().Ring()
	known := fmt.Sprintf("ring generation %d, read %v ago", ring.Generation, rotator.ReadAge(now).Round(time.Millisecond))
	if rotator.PublishOnly() {
		return fmt.Sprintf("%d keys published; %s", len(rotator.View().KeySet()), known), nil
	}
	active, err := rotator.Signer(now)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s signs; %s", active.Key.KeyID(), known), nil
}

func (m *managed) checkRotation() (string, error) {
	rotator := m.rotator.Load()
	if rotator == nil {
		return "", errNotRead
	}
	if failure := rotator.Failure(); failure != nil {
		return "", failure
	}
	ring := rotator.View().Ring()
	return nextRotation(ring, ring.At(time.Now()))
}

// nextRotation returns when the next rotation is. It is an error if it is not
// planned, or if copies may lack a key that does not wait for them.
func nextRotation(ring *rotation.Ring, at time.Time) (string, error) {
	active, standby, w := ring.Active(at), ring.Standby(at), ring.Waiting(at)
	var planned string
	var wrong []string
	if lacking := ring.Lacking(active); len(lacking) > 0 {
		wrong = append(wrong, fmt.Sprintf("%s signs, and %s not confirmed it", active.KeyID, copiesHave(lacking)))
	}
	switch {
	case w != nil && len(w.Copies) > 0:
		due := "is due at"
		if !at.Before(w.Due) {
			due = "was due at"
		}
		wrong = append(wrong, fmt.Sprintf("the rotation to %s %s %s and waits for %s, while the active key signs",
			w.KeyID, due, formatTime(w.Due), waitsFor(w)))
	case standby == nil || standby.SignFrom.IsZero():
		return "", errors.New(strings.Join(append(wrong, "the next rotation is not planned yet"), "; "))
	default:
		planned = fmt.Sprintf("%s signs from %s", standby.KeyID, formatTime(standby.SignFrom))
		if lacking := ring.Lacking(standby); len(lacking) > 0 {
			wrong = append(wrong, fmt.Sprintf("%s, and %s not confirmed it", planned, copiesHave(lacking)))
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

// copiesHave returns "copy a has", or "the copies a, b have".
func copiesHave(names []string) string {
	verb := " has"
	if len(names) > 1 {
		verb = " have"
	}
	return rotation.NameCopies(names) + verb
}

// waitsFor returns what a rotation waits for.
func waitsFor(w *rotation.Waiting) string {
	var list []string
	if w.Server {
		list = append(list, "a server that publishes it")
	}
	for _, name := range w.Copies {
		list = append(list, "copy "+name)
	}
	return strings.Join(list, ", ")
}
