package rotation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"oidc-provider/internal/store"
	"oidc-provider/internal/store/storetest"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// TestSimulation runs replicas through years of hostile life and checks the
// invariants of the design after every step.
func TestSimulation(t *testing.T) {
	var total simTotal
	rapid.Check(t, func(t *rapid.T) {
		aheads := rapid.SampledFrom([][]time.Duration{{2 * time.Hour}, {24 * time.Hour}, {2 * time.Hour, 24 * time.Hour}}).Draw(t, "publish-aheads")
		p := rotation.Policy{
			Schedule:         rapid.SampledFrom(schedules).Draw(t, "schedule"),
			PublishAhead:     rotation.Duration(rapid.SampledFrom(aheads).Draw(t, "publish-ahead")),
			MaxTokenLifetime: rotation.Duration(rapid.SampledFrom(lifetimes).Draw(t, "lifetime")),
			ClockSkew:        rotation.Duration(rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Minute}).Draw(t, "skew")),
		}
		kind := rapid.SampledFrom(storetest.Kinds).Draw(t, "store")
		w := newWorld(t, p, kind, rapid.Bool().Draw(t, "sealed"))
		copies := rapid.SampledFrom([][]string{{"-"}, {"google"}, {"google", "vault", "bucket"}}).Draw(t, "copies")
		t.Repeat(w.actions(aheads, copies))
		total.add(w)
	})
	t.Logf("%+v", total)
}

// simTotal says what a run of the simulation has seen: one in which little
// happens shows little.
type simTotal struct {
	Simulated                               time.Duration
	Tokens, Keys, Signed, Gone, Revoked     int
	Writes, Faults, RelyingParties, Refused int
	Copies, Brought, Lost, Waited           int
	Wrong, Future                           int // clocks, rings
}

func (s *simTotal) add(w *world) {
	s.Simulated += w.now.Sub(simStart)
	s.Tokens += w.count.tokens
	s.Refused += w.count.refused
	s.Faults += w.store.Counts().Faults
	s.RelyingParties += w.count.fetches
	s.Keys += w.made
	s.Signed += len(w.tokens)
	s.Gone += len(w.gone)
	s.Revoked += len(w.revoked)
	s.Writes += w.store.Counts().Writes
	s.Copies += w.count.copies
	s.Brought += w.count.brought
	s.Lost += w.count.lost
	s.Waited += w.count.waited
	s.Wrong += w.count.wrong
	s.Future += w.count.future
}

var (
	schedules = []string{"@every 720h", "@weekly", "0 3 1 * *", "@every 30h", "@every 1h"}
	lifetimes = []time.Duration{10 * time.Minute, time.Hour, 24 * time.Hour, 72 * time.Hour}
	spans     = []time.Duration{time.Second, 5 * time.Minute, time.Hour, 13 * time.Hour, 3 * 24 * time.Hour, 40 * 24 * time.Hour}
)

func (w *world) actions(aheads []time.Duration, copies []string) map[string]func(*rapid.T) {
	replica := func(t *rapid.T) *replica { return rapid.SampledFrom(w.replicas).Draw(t, "replica") }
	// Operators' clocks differ as well.
	clock := func(t *rapid.T) time.Time { return w.now.Add(w.drawOffset(t)) }
	copyName := func(t *rapid.T) string { return rapid.SampledFrom(copies).Draw(t, "copy") }
	pass := func(t *rapid.T) {
		span := rapid.SampledFrom(spans).Draw(t, "span")
		w.pass(span)
		w.checkProgress(span)
	}
	policy := func(t *rapid.T, schedules []string) {
		p := rotation.Policy{
			Schedule:         rapid.SampledFrom(schedules).Draw(t, "schedule"),
			PublishAhead:     rotation.Duration(rapid.SampledFrom(aheads).Draw(t, "publish-ahead")),
			MaxTokenLifetime: rotation.Duration(rapid.SampledFrom(lifetimes).Draw(t, "lifetime")),
		}
		w.setPolicy(p, clock(t))
	}
	return map[string]func(*rapid.T){
		"":      func(t *rapid.T) { w.check(); w.checkNothingLeaks() },
		"tick":  func(t *rapid.T) { w.tick(replica(t)) },
		"pass":  pass,
		"pass2": pass, // twice as likely as the rest
		"hang": func(t *rapid.T) { // no loop runs
			end := w.now.Add(rapid.SampledFrom(spans).Draw(t, "span"))
			w.now = latest(w.now, earlier(w.landAt, end)) // what was sent arrives
			w.land()
			w.now = end
			for _, rep := range w.replicas {
				w.sign(rep)
			}
			w.fetch()
		},
		"crash": func(t *rapid.T) { replica(t).r = nil },
		"start": func(t *rapid.T) { w.start(replica(t)) },
		"cut":   func(t *rapid.T) { replica(t).link.SetCut(true) },
		"heal":  func(t *rapid.T) { replica(t).link.SetCut(false) },
		"publish": func(t *rapid.T) {
			p := replica(t).places[rapid.IntRange(0, 1).Draw(t, "place")]
			p.failing = !p.failing
		},
		"fault": func(t *rapid.T) {
			faults := []storetest.Fault{storetest.FailBefore, storetest.FailAfter, storetest.LoseRace, storetest.Late}
			w.lateBy = rapid.SampledFrom([]time.Duration{0, w.skew / 4, w.skew / 2}).Draw(t, "late by")
			w.store.FailSwap(rapid.SampledFrom(faults).Draw(t, "fault"))
		},
		"fail load": func(*rapid.T) { w.store.FailLoad() },
		"touch":     func(*rapid.T) { w.store.Touch() },
		"plugin": func(t *rapid.T) { // what opens the keys goes away, or comes back
			rep := replica(t)
			if !rep.sealer.failing() {
				rep.sealer.fail(errors.New("the plugin is away"))
				return
			}
			rep.sealer.fail(nil)
			rep.healed = w.now
		},
		"drift": func(t *rapid.T) {
			// A clock is set, never backwards past what it has shown by
			// more than the skew; the loop wakes soon after.
			rep := replica(t)
			if rep.rightClock(w) {
				rep.offset = w.drawOffset(t)
			}
			w.tick(rep)
		},
		"wrong clock": func(t *rapid.T) { w.wrongClock(t, replica(t)) },
		"unsure clock": func(t *rapid.T) {
			rep := replica(t)
			rep.offset, rep.evidence = w.drawOffset(t), unknown
			w.start(rep)
		},
		"ntp": func(t *rapid.T) {
			for _, rep := range w.replicas {
				if rep.evidence != trusted {
					w.setClock(rep, w.drawOffset(t))
				}
			}
		},
		"future": w.ringFromTheFuture,
		"rotate": func(t *rapid.T) {
			w.rotate(rapid.Bool().Draw(t, "force"), clock(t))
		},
		"revoke": func(t *rapid.T) {
			w.revoke(rapid.SampledFrom(w.ring.Keys).Draw(t, "key").KeyID, clock(t))
		},
		"add copy":    func(t *rapid.T) { w.addCopy(copyName(t), clock(t)) },
		"remove copy": func(t *rapid.T) { w.removeCopy(copyName(t), clock(t)) },
		"confirm": func(t *rapid.T) {
			var kids []string // none: all
			if rapid.Bool().Draw(t, "one key") {
				kids = []string{rapid.SampledFrom(w.ring.Keys).Draw(t, "key").KeyID}
			}
			w.confirmCopy(copyName(t), clock(t), kids...)
		},
		"lose": func(t *rapid.T) {
			var kids []string // none: all
			if rapid.Bool().Draw(t, "one key") {
				kids = []string{rapid.SampledFrom(w.ring.Keys).Draw(t, "key").KeyID}
			}
			w.lose(copyName(t), clock(t), kids...)
		},
		"policy": func(t *rapid.T) { policy(t, schedules) },
		"hurry":  func(t *rapid.T) { policy(t, []string{"@every 1h"}) }, // hands over as soon as it may
		"import": func(t *rapid.T) {
			key, _ := w.generate(rotation.Policy{})
			exclude := rapid.Bool().Draw(t, "exclude")
			w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
				return rotation.ImportVerifying(r, key.PublicKey, exclude, clock(t))
			})
		},
		"reimport": func(t *rapid.T) {
			if len(w.ring.Removed) == 0 {
				return
			}
			kid := rapid.SampledFrom(w.ring.Removed).Draw(t, "kid")
			i := slices.IndexFunc(w.pool, func(k *jwks.SigningKey) bool { return k.KeyID() == kid })
			w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
				return rotation.ImportVerifying(r, w.pool[i].PublicKey, false, clock(t))
			})
		},
		"reseal": func(t *rapid.T) {
			open := &box{owner: "safe"}
			w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
				r, err := r.Unseal(context.Background(), open)
				if err != nil || len(r.Recipients) == 0 {
					return r, err
				}
				return rotation.Reseal(r, recipients, clock(t))
			})
		},
		"damage": w.damage,
		"forge":  w.forge,
		"break glass": func(t *rapid.T) {
			w.strike(rapid.SampledFrom(w.ring.Keys).Draw(t, "key").KeyID)
		},
		"rollback": w.rollback,
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (w *world) drawOffset(t *rapid.T) time.Duration {
	half := int(w.skew / 2)
	return time.Duration(rapid.SampledFrom([]int{-half, -half / 3, 0, half / 3, half}).Draw(t, "offset"))
}

func (w *world) operate(change func(*rotation.Ring) (*rotation.Ring, error)) {
	if _, err := rotation.Update(context.Background(), w.cli(), rotation.Access{Sealer: operator, AllowUnsigned: !w.signed}, change); err != nil {
		fmt.Fprintln(&w.out, err)
	}
	w.emergency, w.waits = false, ""
}

func (w *world) setPolicy(p rotation.Policy, now time.Time) {
	w.operate(func(r *rotation.Ring) (*rotation.Ring, error) { return rotation.SetPolicy(r, p, now) })
}

func (w *world) rotate(force bool, now time.Time) {
	w.emergency = force
	w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
		next, _, err := rotation.Rotate(r, now, force, w.generate)
		return next, err
	})
}

func (w *world) revoke(kid string, now time.Time) {
	w.emergency = true
	w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
		next, _, err := rotation.Revoke(r, kid, now, w.generate)
		return next, err
	})
}

// damage replaces the ring by something that is none of ours for a while.
func (w *world) damage(t *rapid.T) {
	good := w.store.Data()
	bad := rapid.SampledFrom([][]byte{
		{}, good[:len(good)/2], []byte("{}"), []byte("null"), bytes.Replace(good, []byte("oidc.example.test"), []byte("other.example.test"), 1),
		bytes.Replace(good, []byte(`"version": `), []byte(`"version": 2`), 1),
		bytes.Replace(good, []byte(`"keys"`), []byte(`"kays"`), 1),
	}).Draw(t, "damage")
	w.replace(t, bad, func() {
		if !bytes.Contains(bad, []byte("other.example.test")) { // operators serve any issuer
			w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
				next, _, err := rotation.Rotate(r, w.now, true, w.generate)
				return next, err
			})
		}
		for _, rep := range w.replicas {
			rep.memory = &store.Memory{} // replicas that start now remember nothing
		}
	})
}

// rollback puts an old backup in the place of the ring for a while.
func (w *world) rollback(t *rapid.T) {
	old, good := w.decode(w.backup), w.store.Data()
	for _, rep := range w.replicas {
		data, _, err := rep.memory.Load(context.Background())
		var memory struct{ Seen struct{ Generation int64 } }
		if err == nil {
			err = json.Unmarshal(data, &memory)
		}
		if err != nil || memory.Seen.Generation <= old.Generation {
			return // this one has not been there
		}
	}
	known := make(map[*replica]int64)
	for _, rep := range w.replicas {
		if rep.r != nil {
			known[rep] = rep.r.View().Ring().Generation
		}
	}
	w.replace(t, w.backup, func() {
		// An operator without rollback state changes it, past what was known, and
		// at no time at which a change was written that is known.
		now := w.now.Add(time.Nanosecond)
		w.kept, w.branch = false, true
		for range rapid.IntRange(0, 3).Draw(t, "steps") {
			w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
				next, _, err := rotation.Rotate(r, now, true, w.generate)
				return next, err
			})
			w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
				p := rotation.Policy{Schedule: rapid.SampledFrom(schedules).Draw(t, "schedule")}
				return rotation.SetPolicy(r, p, now)
			})
		}
		w.kept, w.branch = true, false
	})
	for _, rep := range w.replicas {
		if rep.r != nil && rep.r.View().Ring().Generation != known[rep] {
			t.Fatalf("invariant 7: a replica follows an old backup")
		}
	}
	if rapid.Bool().Draw(t, "newer backup") {
		w.backup = good
	}
}

// replace is how the store holds bad for a while, which no process may replace.
func (w *world) replace(t *rapid.T, bad []byte, operate func()) {
	w.now = latest(w.now, w.landAt) // nothing is on its way
	w.land()
	good := w.store.Data()
	w.store.Put(bad)
	w.kept = true
	w.pass(rapid.SampledFrom(spans[:4]).Draw(t, "span"))
	operate()
	bad = w.store.Data()
	for _, rep := range w.replicas {
		w.tick(rep)
	}
	rep := rapid.SampledFrom(w.replicas).Draw(t, "replica")
	w.start(rep)
	w.tick(rep)
	if !bytes.Equal(w.store.Data(), bad) {
		t.Fatalf("invariant 7: what is no successor of the ring was replaced")
	}
	w.store.Put(good)
	w.kept = false
}
