package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"oidc-provider/rotation"
)

// The checks of the simulation: each names the invariant of the design.

// checkSuccession compares the true ring with the one that follows.
func (w *world) checkSuccession(old, next *rotation.Ring, emergency bool, waits string) {
	repaired := len(next.ClockRepairs) > 0 && next.ClockRepairs[len(next.ClockRepairs)-1].Generation == next.Generation
	if next.Generation != old.Generation+1 || next.Updated.Before(old.Updated) && !repaired {
		w.t.Fatalf("invariant 6: generation %d of %v follows %d of %v", next.Generation, next.Updated, old.Generation, old.Updated)
	}
	w.noteCopies(old, next, waits)
	// In a ring from the future, the next key may have become active before the other
	// was revoked.
	if emergency && (old.Active(old.At(next.Updated)).KeyID != next.Active(next.Updated).KeyID || struck(old)) {
		w.exempt[next.Active(next.Updated).KeyID] = true
	}
	present := make(map[string]bool)
	for _, k := range next.Keys {
		present[k.KeyID] = true
		if w.gone[k.KeyID] {
			w.t.Fatalf("invariant 4: key %s came back", k.KeyID)
		}
		if w.revoked[k.KeyID] && k.Published() {
			w.t.Fatalf("invariant 4: revoked key %s is published again", k.KeyID)
		}
		if !k.RevokedAt.IsZero() {
			if !w.revoked[k.KeyID] && !emergency {
				w.t.Fatalf("invariant 8: key %s was revoked by nobody", k.KeyID)
			}
			w.revoked[k.KeyID] = true
		}
		if k.Forced && !w.exempt[k.KeyID] {
			w.t.Fatalf("invariant 2: key %s is marked forced without a forced rotation", k.KeyID)
		}
	}
	for _, k := range old.Keys {
		if present[k.KeyID] {
			continue
		}
		w.gone[k.KeyID] = true
		if !slices.Contains(next.Removed, k.KeyID) {
			w.t.Fatalf("invariant 4: key %s left without a trace", k.KeyID)
		}
	}
}

// checkSigned is called for each token.
func (w *world) checkSigned(rep *replica, kid string, local time.Time) {
	if !w.exempt[kid] && !w.revoked[kid] && !rep.believes(w) {
		since, ok := w.published[kid]
		if want := w.ahead[kid] - w.skew; !ok || w.now.Sub(since) < want {
			w.t.Fatalf("invariant 2: key %s signs %v after its publication was confirmed (%v), want %v", kid, w.now.Sub(since), ok, want)
		}
		for i, party := range w.parties {
			if party.keys != nil && w.now.Before(party.expires) && !party.keys[kid] {
				w.t.Fatalf("invariant 2: relying party %d, fetched %v ago, cannot know key %s", i, w.now.Sub(party.fetched), kid)
			}
		}
		w.checkCopies(rep, kid)
	}
	if w.gone[kid] && !w.revoked[kid] {
		w.t.Fatalf("invariant 3: a token is signed by key %s, which was removed", kid)
	}
	for _, ring := range rep.link.doubt {
		if w.future || !rep.healthyClock(w) {
			break // it does not go by the ring's own time
		}
		if active := ring.Active(ring.At(local)); active.KeyID != kid {
			w.t.Fatalf("invariant 6: after a write in doubt key %s signs, and by one of the rings it is %s", kid, active.KeyID)
		}
	}
	if age := rep.r.ReadAge(local); age > time.Duration(rep.r.View().Ring().Policy.PublishAhead) {
		w.t.Fatalf("invariant 2: a replica signs %v after it last read the ring", age)
	}
}

func (w *world) check() {
	w.checkSomeKeySigns()
	w.checkReplicasAgree()
	w.checkTokensVerify()
}

func (w *world) checkSomeKeySigns() {
	for _, offset := range []time.Duration{-w.skew / 2, 0, w.skew / 2} {
		active := w.ring.Active(w.ring.At(w.now.Add(offset)))
		if active == nil || active.SigningKey() == nil {
			w.t.Fatalf("invariant 1: no key signs %v from now", offset)
		}
	}
}

// checkProgress expects of a single replica that was left in peace for a while
// that the next activation is planned, under the policy that is in force.
func (w *world) checkProgress(span time.Duration) {
	if span < 3*24*time.Hour {
		return
	}
	if !slices.ContainsFunc(w.replicas, func(rep *replica) bool {
		return rep.r != nil && !rep.publishOnly && rep.healthyClock(w) && !rep.sealer.failing() && !rep.link.Cut() && !rep.places[0].failing && !rep.places[1].failing
	}) {
		return
	}
	keys := func() (active, standby *rotation.Key) {
		now := w.ring.At(w.now.Add(-w.skew / 2))
		return w.ring.Active(now), w.ring.Standby(now)
	}
	active, standby := keys()
	if w.now.Sub(active.SignFrom) < w.skew {
		// It has only just begun to sign: what is due may be so on some
		// clocks alone, or have failed and be tried again.
		w.pass(w.skew + time.Minute)
		_, standby = keys()
	}
	slack := w.skew
	if w.bringToCopies(standby) {
		slack += 24 * time.Hour // just so late that the schedule's next instant came too early
		_, standby = keys()
	}
	if standby == nil || standby.SignFrom.IsZero() {
		w.t.Fatalf("progress: no activation is planned")
	}
	// No schedule leaves more than a month between two activations.
	if d := standby.SignFrom.Sub(w.now); d > 31*24*time.Hour+slack {
		w.t.Fatalf("progress: the next activation is %v away", d)
	}
	if w.ring.Policy.Schedule == "@every 1h" && standby.SignFrom.Sub(w.now) > 25*time.Hour+w.skew {
		w.t.Fatalf("progress: activation in %v under the schedule @every 1h", standby.SignFrom.Sub(w.now))
	}
}

// checkReplicasAgree compares all that hold the newest ring. Two clocks that
// are on different sides of an activation are the only excuse.
func (w *world) checkReplicasAgree() {
	if struck(w.ring) {
		return // the next write makes another key active
	}
	var kids []string
	for _, rep := range w.replicas {
		if rep.r == nil || rep.publishOnly || !rep.healthyClock(w) || rep.sealer.failing() || rep.r.View().Ring().Generation != w.ring.Generation || rep.r.View().Pending() != nil || rep.link.doubt != nil {
			continue
		}
		local := rep.local(w)
		if rep.r.ReadAge(local) > time.Duration(w.ring.Policy.PublishAhead) || rep.read.Before(rep.healed.Add(time.Minute)) {
			continue // too old to sign, or from before it tried to open the keys again
		}
		s, err := rep.r.Signer(local)
		if err != nil {
			w.t.Fatalf("invariant 1: a healthy replica does not sign: %v", err)
		}
		kids = append(kids, s.Key.KeyID())
	}
	slices.Sort(kids)
	if kids = slices.Compact(kids); len(kids) < 2 {
		return
	}
	for _, k := range w.ring.Keys {
		if d := k.SignFrom.Sub(w.now); !k.SignFrom.IsZero() && d.Abs() <= w.skew {
			return
		}
	}
	w.t.Fatalf("invariant 1: replicas with the newest ring sign with %v", kids)
}

func (w *world) checkTokensVerify() {
	for kid, exp := range w.tokens {
		if w.revoked[kid] || w.now.Add(-w.skew/2).After(exp) {
			continue // expired on the slowest clock
		}
		if i := slices.IndexFunc(w.ring.Keys, func(k rotation.Key) bool { return k.KeyID == kid && k.Published() }); i < 0 {
			w.t.Fatalf("invariant 3: key %s is no longer published, a token by it lives until %v", kid, exp.Sub(w.now))
		}
		for i, rep := range w.replicas {
			if rep.r == nil || rep.r.View().Ring().Generation != w.ring.Generation || rep.places[0].failing || rep.places[1].failing {
				continue
			}
			if rep.r.Failure() == nil && !rep.shows(kid) {
				w.t.Fatalf("invariant 3: replica %d does not show key %s, a token by it lives until %v", i, kid, exp.Sub(w.now))
			}
		}
	}
}

func (w *world) checkNothingLeaks() {
	for _, rep := range w.replicas {
		if rep.r != nil {
			fmt.Fprintf(&w.out, "%v %+v %#v", rep.r.View().Ring(), rep.r.View(), rep.r.View().Ring().Keys)
		}
	}
	out := w.out.String()
	w.out.Reset()
	// Of older keys the private halves are gone from the ring.
	for _, secret := range w.secrets[max(0, len(w.secrets)-100):] {
		if strings.Contains(out, secret) {
			w.t.Fatalf("invariant 5: private key material was shown")
		}
	}
}
