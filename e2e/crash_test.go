package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

const (
	kills = 12
	// recovery bounds every outage that a kill may cause. Most of it is the API
	// server's: after a refused connection its gRPC client waits a second, then
	// 1.6, before it tries the socket again.
	recovery = 10 * time.Second
)

// TestKilledAtRandom kills the provider through five rotations, half of the
// times around a hand-over, and starts it again at once. What it promised before
// a kill it must keep afterwards.
func TestKilledAtRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 0))
	lab := newLab(t)
	p := lab.newProvider(hurried("ES256"))
	p.init()
	p.start()
	c := lab.newCluster()
	c.start(p.issuer, p.signerFlags()...)

	var refusals atomic.Int64
	client := persistentClient(lab.ca.client(), &refusals)
	d := discover(t, p.issuer, client)
	caches, _ := d.caching(t, 3, p.policy.maxAge)
	reviewer := &patientReviewer{cluster: c, accepted: make(map[string]bool)}
	tr := &traffic{t: t, cluster: c, patience: recovery, parties: append(caches, d.remote(), reviewer.party())}
	watch := watchKeys(t, client, p.jwksURL())
	tr.start()

	began := time.Now()
	for n := 0; n < kills || len(tr.signedBy()) <= rotations; n++ {
		if time.Since(began) > 150*time.Second {
			t.Fatalf("%d keys have signed in %s under %d kills, want %d", len(tr.signedBy()), time.Since(began), n, rotations+1)
		}
		p.crash(n, rng)
	}
	tr.awaitMore(20, recovery)
	tr.stop()
	watch.stop()

	tr.report()
	watch.report()
	t.Logf("relying parties met a closed port %d times", refusals.Load())
	reviewer.report(t)
	checkAfterKills(t, p, c, tr, watch)
	p.stop()
}

// crash waits for the n-th moment, kills the provider and starts it again. One
// time in three the new process is killed as well, somewhere in its start-up.
func (p *provider) crash(n int, rng *rand.Rand) {
	t := p.lab.t
	t.Helper()
	if n%2 == 0 {
		handOver := p.nextHandOver()
		// More often after than before it: that is when the next standby is made
		// and written.
		at := handOver.Add(time.Duration(rng.Int64N(int64(300*time.Millisecond))) - 100*time.Millisecond)
		time.Sleep(time.Until(at))
		t.Logf("kill %d, %s from a hand-over", n, time.Since(handOver).Round(time.Millisecond))
	} else {
		wait := time.Duration(rng.Int64N(int64(3 * time.Second)))
		time.Sleep(wait)
		t.Logf("kill %d, after %s", n, wait.Round(time.Millisecond))
	}
	p.process.kill()
	p.launch()
	if rng.IntN(3) == 0 {
		time.Sleep(time.Duration(rng.Int64N(int64(150 * time.Millisecond))))
		p.process.kill()
		p.launch()
	}
	p.process.awaitReady(recovery, p.ready)
}

// nextHandOver waits until the ring names the instant of the next hand-over.
func (p *provider) nextHandOver() time.Time {
	p.lab.t.Helper()
	var at time.Time
	eventually(p.lab.t, "a planned hand-over", 3*recovery, func() error {
		keys, err := p.keys(p.lab.t.Context())
		if err != nil {
			return err
		}
		for _, key := range keys {
			if key.Phase == "next" && key.SignFrom != nil {
				at = *key.SignFrom
				return nil
			}
		}
		return fmt.Errorf("no key has a date to sign from: %+v", keys)
	})
	return at
}

// awaitMore waits for tokens that were not there when it was called.
func (tr *traffic) awaitMore(n int, within time.Duration) {
	tr.t.Helper()
	before := len(tr.issued())
	eventually(tr.t, "more tokens", within, func() error {
		if more := len(tr.issued()) - before; more < n {
			return fmt.Errorf("%d tokens, want %d", more, n)
		}
		return nil
	})
}

func checkAfterKills(t *testing.T, p *provider, c *cluster, tr *traffic, watch *keyWatch) {
	t.Helper()
	if c.server.ended() {
		t.Errorf("the API server has ended: %s", c.server.cmd.ProcessState)
	}
	if tr.longestWait > recovery {
		t.Errorf("a token took %s, want no outage above %s", tr.longestWait, recovery)
	}
	var kept []string
	for _, key := range p.mustKeys() {
		kept = append(kept, key.KeyID)
	}
	for _, kid := range slices.Concat(watch.kids(), tr.signedBy()) {
		if !slices.Contains(kept, kid) {
			t.Errorf("key %s was published and is not in the ring", kid)
		}
	}
}

// seed makes a failure repeatable as far as timing allows.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if given := os.Getenv("E2E_SEED"); given != "" {
		var err error
		if n, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("E2E_SEED: %v", err)
		}
	}
	t.Logf("E2E_SEED=%d", n)
	return n
}
