package e2e

import (
	"fmt"
	"testing"
	"time"
)

// rotations is how many hand-overs the tests of rotation want to see.
const rotations = 5

// hurried lives a month in six seconds: the proportions of the default policy,
// and clocks and timers that cannot be told from those of real use.
func hurried(algorithm string) policy {
	return policy{schedule: "@every 6s", algorithm: algorithm, publishAhead: 5 * time.Second, maxAge: 2 * time.Second}
}

// TestScheduledRotations rotates keys under traffic. No relying party may ever
// reject a token, however old its copy of the keys was allowed to be.
func TestScheduledRotations(t *testing.T) {
	lab := newLab(t)
	p := lab.newProvider(hurried("RS256"))
	p.init()
	p.start()
	c := lab.newCluster()
	c.start(p.issuer, p.signerFlags()...)

	d := discover(t, p.issuer, lab.ca.client())
	caches, sets := d.caching(t, 5, p.policy.maxAge)
	tr := &traffic{t: t, cluster: c, parties: append(caches, d.remote(), c.reviewer())}
	watch := watchKeys(t, lab.ca.client(), p.jwksURL())
	tr.start()
	began := time.Now()
	tr.awaitSigners(rotations+1, 90*time.Second)
	// Every cache turns over once more with the last key signing.
	time.Sleep(2 * p.policy.maxAge)
	tr.stop()
	watch.stop()

	tr.report()
	watch.report()
	checkLead(t, tr, watch, p.policy.maxAge)
	checkLaziness(t, sets, time.Since(began))
	p.stop()
}

// awaitSigners waits until tokens have come from n keys.
func (tr *traffic) awaitSigners(n int, within time.Duration) {
	tr.t.Helper()
	eventually(tr.t, fmt.Sprintf("tokens from %d keys", n), within, func() error {
		if kids := tr.signedBy(); len(kids) < n {
			return fmt.Errorf("%d keys have signed: %s", len(kids), kids)
		}
		return nil
	})
}

// checkLead checks the rule that makes rotation safe, apart from its effect: no
// token was asked for before its key had been published for max-age. The two
// keys of the first look are excepted, since it was too late to see them appear.
func checkLead(t *testing.T, tr *traffic, watch *keyWatch, maxAge time.Duration) {
	t.Helper()
	checked := make(map[string]bool)
	for i, token := range tr.issued() {
		seen, found := watch.appeared(token.kid)
		if !found {
			continue
		}
		checked[token.kid] = true
		if lead := token.asked.Sub(seen); lead < maxAge {
			t.Fatalf("token %d: its key %s had been published for %s only, relying parties cache for %s", i, token.kid, lead, maxAge)
		}
	}
	if len(checked) < rotations-1 {
		t.Errorf("only %d of the keys that signed were seen to appear in the JWKS before", len(checked))
	}
}

// checkLaziness checks the test itself. Caches that were fetched more often than
// max-age allows would prove nothing, and neither would any that were not used.
func checkLaziness(t *testing.T, sets []*cachingKeySet, elapsed time.Duration) {
	t.Helper()
	for i, set := range sets {
		// One fetch came before the traffic began, and one may be under way.
		most := int(elapsed/set.maxAge) + 2
		// A cache is asked about every token once in sweepEvery, if not earlier
		// about a new one, and fetches within that time of its expiry.
		least := int(elapsed / (set.maxAge + sweepEvery))
		if set.fetches > most || set.fetches < least {
			t.Errorf("cache %d fetched %d times in %s, want %d to %d", i, set.fetches, elapsed, least, most)
		}
	}
}
