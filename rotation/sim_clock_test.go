package rotation_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"oidc-provider/internal/store/storetest"
	"oidc-provider/rotation"
)

// The clocks of the simulation that are wrong, from boot or after a jump, and what
// the machine knows about them.

// evidence is what a replica can learn about its clock.
type evidence int

const (
	confirmed evidence = iota // as long as the clock is right
	trusted                   // by an operator, who sees to it
	unknown                   // nothing says anything
	wrong                     // something contradicts it
	disputed                  // the kernel confirms it, and others contradict it
)

func (rep *replica) clock(w *world) rotation.Clock {
	if rep.evidence == trusted {
		return nil
	}
	return func(time.Time, time.Duration) (bool, error) {
		switch rep.evidence {
		case confirmed:
			return true, nil
		case wrong:
			return false, errors.New("a witness shows another time")
		case disputed:
			return true, errors.New("witnesses show another time")
		}
		if age := w.now.Add(rep.offset).Sub(w.ring.Updated); !rep.rightClock(w) && age.Abs() <= w.skew {
			// The clock is behind by the age of the ring: nothing tells that apart from
			// a ring that was just written.
			return false, errors.New("somebody noticed")
		}
		return false, nil
	}
}

// local is what its clock shows. The monotonic clock is that of true time.
func (rep *replica) local(w *world) time.Time {
	return rotation.Reading(w.now.Add(rep.offset), w.now.Sub(simStart))
}

// rightClock reports whether its clock is as right as clocks are.
func (rep *replica) rightClock(w *world) bool { return rep.offset.Abs() <= w.skew/2 }

// healthyClock reports whether it has also learnt that.
func (rep *replica) healthyClock(w *world) bool { return rep.sure && rep.rightClock(w) }

// learn is called when the replica asks for evidence.
func (rep *replica) learn(w *world) {
	rep.sure = rep.rightClock(w) && (rep.evidence == confirmed || rep.evidence == trusted)
}

// believes reports whether the replica can only take the ring's word for the time,
// and that was wrong when it last read it.
func (rep *replica) believes(w *world) bool {
	return !rep.healthyClock(w) && rep.r.View().Ring().Updated.After(w.now.Add(w.skew))
}

// checkWrites is called when it writes the ring.
func (rep *replica) checkWrites(w *world) {
	if struck(w.ring) {
		return // a revocation by an operator, at the ring's own time
	}
	if !rep.rightClock(w) {
		w.t.Fatalf("invariant 9: a machine whose clock is %v ahead writes the ring", rep.offset)
	}
	if w.future && w.ring.Updated.After(rep.local(w)) {
		w.t.Fatalf("invariant 9: a ring from the future is written %v before its time", w.ring.Updated.Sub(rep.local(w)))
	}
}

// expires returns when a token with the longest lifetime expires for those whose
// clock is right. A token of a machine whose clock is ahead says that it was issued
// later than now. No right clock accepts it before that time; what it is worth then
// is that machine's own problem.
func (rep *replica) expires(w *world, lifetime time.Duration) time.Time {
	return earlier(rep.local(w).Round(0), w.now.Add(w.skew)).Add(lifetime)
}

var wrongBy = []time.Duration{time.Hour, 3 * 24 * time.Hour, 40 * 24 * time.Hour, 2 * 365 * 24 * time.Hour}

// wrongClock makes a clock wrong: from boot, or while the replica runs.
func (w *world) wrongClock(t *rapid.T, rep *replica) {
	by := rapid.SampledFrom(wrongBy).Draw(t, "by")
	if rapid.Bool().Draw(t, "behind") {
		by = -by
	}
	known := rapid.SampledFrom([]evidence{unknown, wrong, disputed}).Draw(t, "evidence")
	w.setWrong(rep, by, known, rapid.Bool().Draw(t, "boot"))
}

func (w *world) setWrong(rep *replica, by time.Duration, known evidence, boot bool) {
	w.count.wrong++
	boot = boot || rep.evidence == trusted
	rep.offset, rep.evidence = by, known
	if boot {
		w.start(rep)
	}
	w.sign(rep)
	w.tick(rep)
}

// setClock is NTP at work.
func (w *world) setClock(rep *replica, offset time.Duration) {
	rep.offset = offset
	if rep.evidence != trusted {
		rep.evidence = confirmed
	}
	w.sign(rep)
}

// ringFromTheFuture is an operator's change on a machine whose clock is ahead, and,
// after a while, its repair.
func (w *world) ringFromTheFuture(t *rapid.T) {
	ahead := rapid.SampledFrom(wrongBy).Draw(t, "ahead")
	change := rapid.SampledFrom([]string{"import", "confirm", "policy", "rotate", "force", "revoke"}).Draw(t, "change")
	span := rapid.SampledFrom(spans).Draw(t, "span")
	w.now = latest(w.now, w.landAt) // nothing is on its way
	w.land()
	w.store.FailSwap(storetest.NoFault)
	if !w.changeInTheFuture(ahead, change) {
		return // it was refused, or lost
	}
	w.pass(min(span, ahead/2))
	w.repair(w.now.Add(w.drawOffset(t)))
}

// changeInTheFuture reports whether the ring is from the future afterwards.
func (w *world) changeInTheFuture(ahead time.Duration, change string) bool {
	at := w.now.Add(ahead)
	switch change {
	case "import":
		key, _ := w.generate(rotation.Policy{})
		w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
			return rotation.ImportVerifying(r, key.PublicKey, false, at)
		})
	case "confirm":
		for name := range w.copies {
			w.confirmCopy(name, at)
		}
	case "policy":
		w.setPolicy(rotation.Policy{Schedule: "@every 31h"}, at)
	case "rotate":
		w.rotate(false, at)
	case "force":
		w.rotate(true, at)
	case "revoke":
		w.revoke(w.ring.Active(w.ring.At(w.now)).KeyID, at)
	}
	w.future = w.ring.Updated.Equal(at)
	if w.future {
		w.count.future++
	}
	if w.future && change == "revoke" {
		// The key that is active in the future takes over now.
		w.exempt[w.ring.Active(w.ring.Updated).KeyID] = true
	}
	return w.future
}

// mustSign expects that every replica can sign: those that run, and one that starts.
func (w *world) mustSign() {
	for i, rep := range w.replicas {
		if i == 0 {
			w.start(rep)
		}
		if rep.r == nil {
			w.t.Fatalf("invariant 9: replica %d does not start", i)
		}
		if _, err := rep.r.Signer(rep.local(w)); err != nil && !rep.publishOnly {
			w.t.Fatalf("invariant 9: replica %d does not sign: %v", i, err)
		}
	}
}

// mustBeGone expects that a key is not kept for as long as a wrong clock said.
func (w *world) mustBeGone(kid string) {
	if !w.gone[kid] {
		w.t.Fatalf("progress: key %s is still in the ring", kid)
	}
}

// TestSimulationClocks has the accidents with clocks, one at a time.
func TestSimulationClocks(t *testing.T) {
	const day = 24 * time.Hour
	monthly := rotation.Policy{Schedule: "@every 720h"}
	for _, tt := range []struct {
		name   string
		p      rotation.Policy
		script func(*world)
	}{
		{"a ring write by a machine an hour ahead", monthly, func(w *world) {
			w.pass(day)
			w.replicas[2].offset, w.replicas[2].evidence = 0, unknown
			w.changeInTheFuture(time.Hour, "import")
			for range 5 {
				w.pass(10 * time.Minute)
				w.mustSign()
			}
			w.pass(time.Hour) // its time comes: nobody has repaired it
			w.future = false
			w.setClock(w.replicas[2], 0)
			w.pass(3 * day)
			w.checkProgress(3 * day)
		}},
		{"the same, shortly before an activation", rotation.Policy{Schedule: "@every 72h"}, func(w *world) {
			w.pass(3*day - 30*time.Minute)
			w.changeInTheFuture(time.Hour, "import")
			w.pass(50 * time.Minute) // past it
			w.mustSign()
			w.repair(w.now)
			w.pass(4 * day)
			w.checkProgress(4 * day)
		}},
		{"a ring write by a machine four days ahead", rotation.Policy{Schedule: "@every 72h"}, func(w *world) {
			w.pass(time.Hour)
			w.changeInTheFuture(4*day, "import")
			w.pass(3 * day)
			w.mustSign()
			w.repair(w.now)
			w.pass(3 * day)
			w.checkProgress(3 * day)
		}},
		{"its repair by a machine whose clock is a little behind", monthly, func(w *world) {
			w.changeInTheFuture(40*day, "import")
			w.repair(w.now.Add(-w.skew / 2))
			w.pass(3 * day)
			w.checkProgress(3 * day)
		}},
		{"the same, on clocks that differ, and a key that is to be removed", rotation.Policy{Schedule: "@every 72h", MaxTokenLifetime: rotation.Duration(day)}, func(w *world) {
			w.replicas[0].offset = w.skew / 2
			w.replicas[1].offset, w.replicas[1].evidence = -w.skew/2, confirmed
			w.pass(3*day + time.Hour)
			remove := w.ring.Keys[0].RemoveAt()
			w.pass(remove.Sub(w.now) - 2*time.Hour)
			w.changeInTheFuture(remove.Sub(w.now)+time.Second, "import")
			w.pass(2*time.Hour + w.skew)
			w.future = false
		}},
		{"a server that boots 40 days ahead", monthly, func(w *world) {
			w.pass(29 * day)
			for _, known := range []evidence{unknown, wrong, disputed} {
				w.setWrong(w.replicas[0], 40*day, known, true)
				w.pass(13 * time.Hour)
			}
			w.setClock(w.replicas[0], 0)
			w.pass(3 * day)
			w.checkProgress(3 * day)
		}},
		{"a clock that jumps 40 days ahead", monthly, func(w *world) {
			w.pass(29 * day)
			w.setWrong(w.replicas[0], 40*day, unknown, false)
			w.pass(13 * time.Hour)
			w.setClock(w.replicas[0], 0)
			w.pass(3 * day)
			w.checkProgress(3 * day)
		}},
		{"a server that boots years behind", rotation.Policy{Schedule: "@every 30h"}, func(w *world) {
			w.setWrong(w.replicas[0], -2*365*day, unknown, true)
			w.pass(3 * day)
			w.mustSign()
			w.checkProgress(3 * day)
		}},
		{"a rotation that was forced a year ahead, and its repair", monthly, func(w *world) {
			w.pass(day)
			w.changeInTheFuture(365*day, "force")
			w.pass(3 * day)
			w.mustSign()
			w.replicas[2].r = nil
			w.repair(w.now)
			w.pass(day)
			w.start(w.replicas[2]) // it remembers the ring from the future
			w.pass(3 * day)
			w.mustSign()
			w.checkProgress(3 * day)
			w.pass(70 * day)
			w.mustBeGone(simKeys[0].KeyID())
			w.mustBeGone(simKeys[1].KeyID()) // in the future, it seemed to sign
		}},
		{"a rotation from the future, and a shorter lifetime", rotation.Policy{Schedule: "@every 1h", PublishAhead: rotation.Duration(2 * time.Hour), MaxTokenLifetime: rotation.Duration(3 * day)}, func(w *world) {
			w.pass(w.skew + time.Minute) // the ring says nothing about a clock any more
			w.replicas[2].offset, w.replicas[2].evidence = 0, unknown
			w.start(w.replicas[2])
			w.changeInTheFuture(day, "force")
			w.pass(time.Hour)
			w.repair(w.now)
			w.setPolicy(rotation.Policy{MaxTokenLifetime: rotation.Duration(10 * time.Minute)}, w.now)
			w.pass(2 * day)
		}},
		{"a revocation by a machine that is a year ahead", monthly, func(w *world) {
			w.pass(day)
			w.changeInTheFuture(365*day, "revoke")
			w.pass(day)
			w.mustSign()
			w.repair(w.now)
			w.pass(3 * day)
			w.checkProgress(3 * day)
			w.mustBeGone(simKeys[0].KeyID())
		}},
		{"a copy that is confirmed by a machine that is a year ahead", rotation.Policy{Schedule: "@every 72h"}, func(w *world) {
			w.addCopy("google", w.now)
			w.changeInTheFuture(365*day, "confirm")
			w.pass(day)
			w.repair(w.now)
			w.pass(3 * day)
			w.checkProgress(3 * day)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, kind := range storetest.Kinds {
				tt.script(newWorld(t, tt.p.WithDefaults(), kind, false))
			}
		})
	}
}

// repair ends it, however often the store fails.
func (w *world) repair(now time.Time) {
	for range 10 {
		if w.ring.Updated.After(now.Add(w.skew)) {
			w.operate(func(r *rotation.Ring) (*rotation.Ring, error) { return rotation.RepairClock(r, now) })
		}
	}
	w.future = w.ring.Updated.After(now.Add(w.skew))
	if w.future {
		w.t.Fatalf("progress: a ring from the future is not repaired")
	}
}
