package rotation_test

import (
	"slices"
	"time"

	"oidc-provider/rotation"
)

// The copies of the simulation: what relying parties go by that no server
// writes to. The operator who brings a key there is not asked whether the ring
// has heard of it.

// A simCopy is a copy from when it is named until it is removed. One that is
// named again is another.
type simCopy struct {
	name  string
	has   map[string]time.Time // since when, by kid
	freed bool                 // removed: nothing waits for it
}

func (w *world) addCopy(name string, now time.Time) {
	w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
		next, signs, err := rotation.AddCopy(r, name, now)
		w.waits = ""
		if standby := next.Standby(next.Updated); err == nil && signs.IsZero() && standby != nil {
			w.waits = standby.KeyID
		}
		return next, err
	})
}

func (w *world) removeCopy(name string, now time.Time) {
	w.operate(func(r *rotation.Ring) (*rotation.Ring, error) { return rotation.RemoveCopy(r, name, now) })
}

// confirmCopy brings keys to a copy, the whole key set if none is named, and
// says so.
func (w *world) confirmCopy(name string, now time.Time, kids ...string) {
	w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
		brought := kids
		if len(kids) == 0 {
			brought = keySet(r)
		}
		next, err := rotation.ConfirmCopy(r, name, now, brought...)
		if c := w.copies[name]; err == nil && c != nil {
			for _, k := range next.Keys {
				if slices.Contains(brought, k.KeyID) && c.has[k.KeyID].IsZero() {
					c.has[k.KeyID] = w.now
					w.count.brought++
				}
			}
		}
		return next, err
	})
}

// lose takes keys from a copy, all that it has if none is named, and says so.
func (w *world) lose(name string, now time.Time, kids ...string) {
	w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
		if len(kids) == 0 {
			for _, k := range r.Keys {
				kids = append(kids, k.KeyID)
			}
		}
		next, signs, err := rotation.UnconfirmCopy(r, name, now, kids...)
		w.waits = ""
		if standby := next.Standby(next.Updated); err == nil && signs.IsZero() && standby != nil {
			w.waits = standby.KeyID
		}
		return next, err
	})
}

// noteLost takes from the copies what next says they have lost. The next key
// waits for them again if that was said; if not, no replica can know of it.
func (w *world) noteLost(old, next *rotation.Ring, waits string) {
	for _, before := range old.Keys {
		i := slices.IndexFunc(next.Keys, func(k rotation.Key) bool { return k.KeyID == before.KeyID })
		for name := range before.CopyConfirmedAt {
			c := w.copies[name]
			if i < 0 || c == nil || c.freed || !next.Keys[i].CopyConfirmedAt[name].IsZero() {
				continue
			}
			kid := before.KeyID
			delete(c.has, kid)
			w.count.lost++
			if kid == waits {
				w.promised[kid] = append(w.promised[kid], c)
				continue
			}
			same := func(o *simCopy) bool { return o == c }
			w.promised[kid] = slices.DeleteFunc(w.promised[kid], same)
			for _, plan := range w.plans {
				plan[kid] = slices.DeleteFunc(slices.Clone(plan[kid]), same) // plans share them
			}
		}
	}
}

// noteCopies keeps the books about copies. waits is the key that is to wait for
// the copy that next has more than old, "" if that was not said.
func (w *world) noteCopies(old, next *rotation.Ring, waits string) {
	named := make(map[string]bool)
	for _, c := range next.Copies {
		named[c.Name] = true
		if w.copies[c.Name] == nil {
			w.count.copies++
			w.copies[c.Name] = &simCopy{name: c.Name, has: map[string]time.Time{}}
			w.promised[waits] = append(w.promised[waits], w.copies[c.Name])
		}
	}
	for name, c := range w.copies {
		if !named[name] {
			c.freed = true
			delete(w.copies, name)
		}
	}
	delete(w.promised, "")
	w.noteLost(old, next, waits)
	plan := make(map[string][]*simCopy)
	for _, k := range next.Keys {
		i := slices.IndexFunc(old.Keys, func(o rotation.Key) bool { return o.KeyID == k.KeyID })
		switch {
		case k.SignFrom.IsZero() || k.VerifyOnly:
		case i >= 0 && old.Keys[i].SignFrom.Equal(k.SignFrom):
			plan[k.KeyID] = w.plans[old.Generation][k.KeyID]
		default:
			for _, c := range w.copies {
				plan[k.KeyID] = append(plan[k.KeyID], c)
			}
		}
	}
	w.plans[next.Generation] = plan
}

// checkCopies expects that every copy has had the key that is signed with for
// long enough: those that its activation was planned for, as far as the replica
// has heard, and those that it was said to wait for.
func (w *world) checkCopies(rep *replica, kid string) {
	for _, c := range slices.Concat(w.plans[rep.r.View().Ring().Generation][kid], w.promised[kid]) {
		since, ok := c.has[kid]
		if want := w.ahead[kid] - w.skew; !c.freed && (!ok || w.now.Sub(since) < want) {
			w.t.Fatalf("invariant 2: key %s signs, and copy %s has had it for %v (%v), want %v", kid, c.name, w.now.Sub(since), ok, want)
		}
	}
}

// bringToCopies ends the wait for copies, if there is one: until then nothing
// is planned. It reports whether there was.
func (w *world) bringToCopies(standby *rotation.Key) bool {
	waited := false
	for standby != nil && len(w.ring.Lacking(standby)) > 0 {
		if !waited && !standby.SignFrom.IsZero() {
			return false // it came too late for the plan
		}
		waited = true
		for _, name := range w.ring.Lacking(standby) {
			w.confirmCopy(name, w.now)
		}
		w.pass(w.skew + time.Minute)
		standby = w.ring.Standby(w.ring.At(w.now.Add(-w.skew / 2)))
	}
	if waited {
		w.count.waited++
	}
	return waited
}
