package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// manyRotations is how many hand-overs [TestReplicas] goes through.
	manyRotations = 10
	// agreement is how long a replica that comes back may differ from the others.
	agreement = 2 * time.Second
	// allowedSkew is what [policy.flags] says.
	allowedSkew = 500 * time.Millisecond
)

// shared is a policy that leaves time for several faults between rotations, and
// for faults that last longer than a replica may sign without reading.
var shared = policy{schedule: "@every 8s", algorithm: "ES256", publishAhead: 8 * time.Second, maxAge: 2 * time.Second}

// TestReplicas puts three replicas, each the signer of an API server of its own,
// on one sealed ring in an etcd of three, and lets them and its members fail, one
// fault after the other. Through ten rotations no token that was issued may fail
// to verify with what any ready replica shows, no two replicas may sign with
// different keys for longer than the clock skew that the policy allows, and a
// replica that comes back must agree with the others in two seconds.
func TestReplicas(t *testing.T) {
	checkRoom(t, shared)
	rng := rand.New(rand.NewPCG(seed(t), 0))
	lab := newLab(t)
	p := lab.startControlPlane(3, shared)

	b := newBalancer(t, p.replicas)
	client := lab.ca.client()
	client.Transport, client.Timeout = b, 2*recovery
	d := discover(t, sharedIssuer, client)
	caches, sets := d.caching(t, 8, shared.maxAge)
	l := &load{t: t, replicas: p.replicas, parties: append(caches, d.remote())}
	l.start()
	began := time.Now()

	struck := p.strike(l, rng)
	down := p.pauseAll(l)
	time.Sleep(2 * shared.maxAge)
	l.stop()

	keys := p.replicas[0].mustKeys()
	checkLaziness(t, sets, time.Since(began))
	checkEveryRotation(t, keys, struck)
	p.checkDisagreement(l, keys)
	p.checkUnwell(b, l, append(struck, down))
	p.checkSealed()
	p.reviewAll(l)
	report(t, l, b, struck)
}

// strike lets one fault after the other happen until there were enough rotations
// and every kind of fault.
func (p *controlPlane) strike(l *load, rng *rand.Rand) []struckFault {
	t := p.lab.t
	t.Helper()
	began, before := time.Now(), len(l.kids())
	var struck []struckFault
	var worst time.Duration
	// One more, since the first may be over before the first fault.
	enough := func() bool { return len(l.kids())-before > manyRotations && len(struck) >= len(p.faults()) }
	for !enough() {
		deck := p.faults()
		rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		for _, f := range deck {
			time.Sleep(time.Duration(rng.Int64N(int64(1500 * time.Millisecond))))
			s, agreed := p.strikeOnce(f, rng)
			struck, worst = append(struck, s), max(worst, agreed)
			if enough() {
				break
			}
			if time.Since(began) > 5*time.Minute {
				t.Fatalf("%d keys have signed after %s and %d faults", len(l.kids()), time.Since(began), len(struck))
			}
		}
	}
	t.Logf("%d faults in %s; a replica that came back agreed after %s at most",
		len(struck), time.Since(began).Round(time.Second), worst.Round(time.Millisecond))
	return struck
}

// pauseAll stops all of etcd for longer than replicas are ready without it, but
// not for as long as they may sign.
func (p *controlPlane) pauseAll(l *load) struckFault {
	t := p.lab.t
	t.Helper()
	down := struckFault{fault{name: allPaused}, span{from: time.Now()}, -1}
	for _, m := range p.members {
		m.process.signal(syscall.SIGSTOP)
	}
	before := len(l.issued())
	time.Sleep(shared.publishAhead * 3 / 4)
	issued := len(l.issued()) - before
	down.to = time.Now()
	for _, m := range p.members {
		m.process.signal(syscall.SIGCONT)
	}
	for _, r := range p.replicas {
		if err := p.agree(r, down.to, recovery); err != nil {
			t.Error(err)
		}
		for _, refused := range l.refusedBy(r.index, down.from, down.to) {
			t.Errorf("replica %d refused at %s while etcd was paused: %v", r.index, clock(refused.asked), refused.err)
		}
	}
	if issued == 0 {
		t.Error("no token was issued while etcd was paused")
	}
	t.Logf("%s etcd paused for %s: %d tokens meanwhile; all replicas agreed %s later", clock(down.from),
		down.to.Sub(down.from).Round(time.Millisecond), issued, time.Since(down.to).Round(time.Millisecond))
	return down
}

// checkEveryRotation checks the test itself: between the first fault and the last
// there were enough rotations, and none without a fault.
func checkEveryRotation(t *testing.T, keys []ringKey, struck []struckFault) {
	t.Helper()
	first, last := struck[0].from, struck[len(struck)-1].to
	rotations := 0
	for _, key := range keys {
		if key.SignUntil == nil || key.SignUntil.Before(first) || key.SignUntil.After(last) {
			continue
		}
		rotations++
		if !slices.ContainsFunc(struck, func(s struckFault) bool { return s.from.Before(*key.SignUntil) && s.to.After(*key.SignFrom) }) {
			t.Errorf("no fault between %s and %s, while %s signed", clock(*key.SignFrom), clock(*key.SignUntil), key.KeyID)
		}
	}
	if rotations < manyRotations {
		t.Errorf("%d rotations, want %d", rotations, manyRotations)
	}
	t.Logf("%d rotations between the first fault and the last", rotations)
}

func (p *controlPlane) checkDisagreement(l *load, keys []ringKey) {
	t := p.lab.t
	t.Helper()
	longest, old, young := l.disagreement(ranks(t, keys))
	if longest > allowedSkew {
		t.Errorf("replica %d signed with %s, asked at %s, %s after replica %d had signed with its successor %s",
			old.replica, old.kid, clock(old.asked), longest, young.replica, young.kid)
	}
	t.Logf("an old key was in use for %s at most after its successor (below zero: never)", longest.Round(time.Millisecond))
}

// checkUnwell wants a replica to sign as long as no fault has struck itself,
// whatever becomes of one member of etcd. It may be not ready for a moment if it
// was just writing to that member.
func (p *controlPlane) checkUnwell(b *balancer, l *load, struck []struckFault) {
	t := p.lab.t
	t.Helper()
	const writing = 5 * time.Second
	for i := range p.replicas {
		for _, o := range b.outages(i) {
			switch {
			case meets(struck, i, o.from, 0):
			case meets(struck, -1, o.from, writing) && o.to.Sub(o.from) < writing:
				t.Logf("replica %d was not ready at %s for %s, without a fault of its own", i, clock(o.from), o.to.Sub(o.from).Round(time.Millisecond))
			default:
				t.Errorf("replica %d was not ready from %s to %s, without a fault near", i, clock(o.from), clock(o.to))
			}
		}
		for _, r := range l.refusedBy(i, time.Time{}, time.Now()) {
			// After an outage the API server's gRPC client takes its time.
			if !meets(struck, i, r.asked, recovery) && !meets(struck, i, r.got, 0) {
				t.Errorf("replica %d refused at %s, without a fault of its own: %v", i, clock(r.asked), r.err)
			}
		}
	}
}

// meets reports whether a fault struck replica i, or any if i is negative, at
// this time or so long before. One of all etcd strikes all.
func meets(struck []struckFault, i int, at time.Time, before time.Duration) bool {
	for _, s := range struck {
		struckIt := i < 0 || s.victim == i || s.name == allPaused
		if struckIt && at.After(s.from) && at.Before(s.to.Add(agreement+before)) {
			return true
		}
	}
	return false
}

const allPaused = "all members paused"

// reviewAll asks every API server about the newest token of every key, now that
// all are well: each knows them from a replica of its own.
func (p *controlPlane) reviewAll(l *load) {
	t := p.lab.t
	t.Helper()
	newest := make(map[string]signedToken)
	for _, token := range l.issued() {
		newest[token.kid] = token
	}
	for _, r := range p.replicas {
		for _, token := range newest {
			eventually(t, fmt.Sprintf("TokenReview by API server %d of a token by %s", r.index, token.kid), 2*recovery, func() error {
				return r.cluster.review(t.Context(), token.raw, audience)
			})
		}
	}
}

func report(t *testing.T, l *load, b *balancer, struck []struckFault) {
	t.Helper()
	kinds := make(map[string]int)
	for _, s := range struck {
		for _, kind := range []string{"killed", "paused", "cut off", "refused", "kept back"} {
			if strings.Contains(s.name, kind) {
				kinds[kind]++
			}
		}
	}
	stale, other := l.refusals()
	t.Logf("%d tokens from %d keys, verified %d times by %d relying parties: %d failures",
		len(l.issued()), len(l.kids()), l.verified.Load(), len(l.parties), l.failures)
	t.Logf("%d faults: %v; %d TokenRequests refused for old knowledge, %d got no answer", len(struck), kinds, stale, other)
	t.Logf("load balancer: %d requests sent to another replica, %d found none ready", b.retries.Load(), b.waits.Load())
}
