package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// TestAPIServerStopped verifies tokens that outlive the API server that issued
// them. Nothing but our documents is left to verify them from.
func TestAPIServerStopped(t *testing.T) {
	lab := newLab(t)
	p := lab.newProvider(calm)
	p.init()
	p.start()
	c := lab.newCluster()
	c.start(p.issuer, p.signerFlags()...)
	tokens := []string{c.mustToken(t, audience), c.mustToken(t, audience), c.mustToken(t, audience)}
	c.stop()
	if err := c.review(t.Context(), tokens[0], audience); err == nil || errors.Is(err, errNotAuthenticated) {
		t.Fatalf("TokenReview answers (%v) although the API server was stopped", err)
	}

	verifyOffline(t, lab, p, tokens)
	if _, err := p.verify(t.Context(), tokens[0], "somebody-else"); !refused(err) {
		t.Errorf("verify for another audience: %v, want exit status 1", err)
	}
	if _, err := p.verify(t.Context(), tokens[0]+"AAAA", audience); !refused(err) {
		t.Errorf("verify with a broken signature: %v, want exit status 1", err)
	}

	// The provider needs no API server to start either.
	p.process.stop(10 * time.Second)
	p.start()
	verifyOffline(t, lab, p, tokens)
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
