package e2e

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// TestAPIServerStopped verifies tokens that outlive the API server that issued
// them, while keys go on rotating without it. Nothing but our documents is left
// to verify them from.
func TestAPIServerStopped(t *testing.T) {
	lab := newLab(t)
	p := lab.newProvider(hurried("RS256"))
	p.init()
	p.start()
	c := lab.newCluster()
	c.start(p.issuer, p.signerFlags()...)
	before := c.mustToken(t, audience)
	after := c.awaitHandOver(t, mustHeader(t, before).KeyID, recovery)
	tokens := []string{before, after}
	c.stop()
	if err := c.review(t.Context(), before, audience); err == nil || errors.Is(err, errNotAuthenticated) {
		t.Fatalf("TokenReview answers (%v) although the API server was stopped", err)
	}

	verifyWhileRotating(t, lab, p, tokens)
	if _, err := p.verify(t.Context(), before, "somebody-else"); !refusedFor(err, "wrong audience") {
		t.Errorf("verify for another audience: %v, want a wrong audience", err)
	}
	if _, err := p.verify(t.Context(), withSignatureOf(before, after), audience); !refusedFor(err, "bad signature") {
		t.Errorf("verify with another token's signature: %v, want a bad signature", err)
	}

	// The provider needs no API server to start either.
	p.stop()
	p.start()
	verifyOffline(t, lab, p, tokens)
	p.stop()
}

// verifyWhileRotating verifies all the time until a key signs that was not in
// the ring at first. Two hand-overs come before that, and between them the
// server makes the key.
func verifyWhileRotating(t *testing.T, lab *lab, p *provider, tokens []string) {
	t.Helper()
	var known []string
	for _, key := range p.mustKeys() {
		known = append(known, key.KeyID)
	}
	began, rounds := time.Now(), 0
	var active []string
	eventually(t, "a new key signs", 4*recovery, func() error {
		verifyOffline(t, lab, p, tokens)
		if rounds++; t.Failed() {
			t.FailNow() // more rounds would only say it again
		}
		active = inPhase(p.mustKeys(), "active")
		if len(active) != 1 || slices.Contains(known, active[0]) {
			return fmt.Errorf("active %s, known from before %s", active, known)
		}
		return nil
	})
	verifyOffline(t, lab, p, tokens)
	t.Logf("verified %d tokens %d times in %s, through two hand-overs", len(tokens), rounds+1, time.Since(began).Round(time.Millisecond))

	set, _, err := fetchKeySet(t.Context(), lab.ca.client(), p.jwksURL())
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Key(active[0])) != 1 {
		t.Errorf("active key %s is not in the JWKS", active[0])
	}
}

// verifyOffline discovers the issuer anew, so that nothing cached can answer.
func verifyOffline(t *testing.T, lab *lab, p *provider, tokens []string) {
	t.Helper()
	d := discover(t, p.issuer, lab.ca.client())
	for i, token := range tokens {
		if _, err := d.verifyWith(&oidc.Config{ClientID: audience}, token); err != nil {
			t.Errorf("go-oidc, token %d: %v", i, err)
		}
		claims, err := p.verify(t.Context(), token, audience)
		if err != nil {
			t.Errorf("token %d: %v", i, err)
		} else if claims["sub"] != subject || claims["iss"] != p.issuer {
			t.Errorf("verify printed %v, want subject %s and issuer %s", claims, subject, p.issuer)
		}
	}
}
