package rotation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// logChanges tells what has become of the keys since the last tick, whoever
// did it: a key that began to sign, and what others have written.
func (r *Rotator) logChanges(ring *Ring, now time.Time) {
	active := ring.Active(ring.At(now))
	if r.logged != nil && active.KeyID != r.active {
		r.cfg.Log.Info("a new key signs", "kid", active.KeyID, "forced", active.Forced)
		if lacking := ring.Lacking(active); len(lacking) > 0 {
			r.cfg.Log.Warn("the key that signs is not acknowledged by every copy: who goes by the others rejects its tokens", "kid", active.KeyID, "copies", lacking)
		}
	}
	// What this process has written it has logged already.
	if r.logged != nil && ring.Generation > r.logged.Generation {
		r.logForeign(r.logged, ring)
	}
	r.logged, r.active = ring, active.KeyID
	r.logWaiting(ring, now)
}

// logWaiting tells once which copies a hand-over waits for, and once more when
// the schedule would have come to it.
func (r *Rotator) logWaiting(ring *Ring, now time.Time) {
	at := ring.At(now)
	w := ring.Waiting(at)
	if w == nil || len(w.Copies) == 0 {
		r.waiting = ""
		return
	}
	due := !at.Before(w.Due)
	names := strings.Join(w.Copies, ", ")
	if told := fmt.Sprint(w.KeyID, names, due); told != r.waiting {
		r.waiting = told
		if due {
			r.cfg.Log.Warn("a hand-over is due and waits for copies: the key that signs goes on", "kid", w.KeyID, "copies", names, "due", w.Due)
		} else {
			r.cfg.Log.Warn("the next hand-over waits for copies: bring the key there, and then `oidc-provider keys copies confirm COPY KID`", "kid", w.KeyID, "copies", names, "by", w.By)
		}
	}
}

// logForeign tells what somebody else has made of old.
func (r *Rotator) logForeign(old, ring *Ring) {
	for i := range ring.Keys {
		k := &ring.Keys[i]
		before := old.find(k.KeyID)
		switch {
		case before == nil && k.VerifyOnly:
			r.cfg.Log.Info("a public key was imported", "kid", k.KeyID)
		case before == nil:
			r.cfg.Log.Info("a key was added", "kid", k.KeyID)
		case before.RevokedAt.IsZero() && !k.RevokedAt.IsZero():
			r.cfg.Log.Warn("a key was revoked", "kid", k.KeyID)
		case len(k.CopyConfirmedAt) > len(before.CopyConfirmedAt):
			r.cfg.Log.Info("a key was acknowledged", "kid", k.KeyID, "copies", slices.Sorted(maps.Keys(k.CopyConfirmedAt)))
		case k.InKeySet() && len(k.CopyConfirmedAt) < len(before.CopyConfirmedAt) && len(ring.Copies) >= len(old.Copies):
			r.cfg.Log.Warn("a copy has lost a key", "kid", k.KeyID, "copies", ring.Lacking(k))
		}
	}
	if !slices.Equal(old.Recipients, ring.Recipients) {
		r.cfg.Log.Warn("the keys were sealed for others", "from", old.Recipients, "to", ring.Recipients)
	}
	if before, after := copyNames(old), copyNames(ring); !slices.Equal(before, after) {
		r.cfg.Log.Warn("other copies are named", "from", before, "to", after)
	}
	if old.Policy != ring.Policy {
		r.cfg.Log.Warn("the policy was changed by somebody else, and is in force now", "from", old.Policy, "to", ring.Policy)
	}
}
