package rotation

import (
	"slices"
	"time"
)

// logChanges tells what has become of the keys since the last tick, whoever
// did it: a key that began to sign, and what others have written.
func (r *Rotator) logChanges(ring *Ring, now time.Time) {
	active := ring.Active(ring.At(now))
	if r.logged != nil && active.KeyID != r.active {
		r.cfg.Log.Info("a new key signs", "kid", active.KeyID, "forced", active.Forced)
	}
	// What this process has written it has logged already.
	if r.logged != nil && ring.Generation > r.logged.Generation {
		r.logForeign(r.logged, ring)
	}
	r.logged, r.active = ring, active.KeyID
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
		}
	}
	if !slices.Equal(old.Recipients, ring.Recipients) {
		r.cfg.Log.Warn("the keys were sealed for others", "from", old.Recipients, "to", ring.Recipients)
	}
	if old.Policy != ring.Policy {
		r.cfg.Log.Warn("the policy was changed by somebody else, and is in force now", "from", old.Policy, "to", ring.Policy)
	}
}
