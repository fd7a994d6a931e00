package e2e

import (
	"errors"
	"testing"
	"time"
)

// startPlain runs the API server with a key of its own, as every cluster does
// that has not met us yet.
func (c *cluster) startPlain(issuer, privateKey, publicKey string) {
	c.lab.t.Helper()
	c.start(issuer,
		"--service-account-signing-key-file="+privateKey,
		"--service-account-key-file="+publicKey)
}

// TestPlainCluster shows that the harness works without oidc-provider: a
// failure elsewhere is then a failure of ours.
func TestPlainCluster(t *testing.T) {
	lab := newLab(t)
	private, public := writeServiceAccountKeys(t, lab.dir)
	c := lab.newCluster()
	c.startPlain("https://issuer.test", private, public)

	token := c.mustToken(t, audience)
	if err := c.review(t.Context(), token, audience); err != nil {
		t.Error(err)
	}
	if err := c.review(t.Context(), token, "somebody-else"); !errors.Is(err, errNotAuthenticated) {
		t.Errorf("TokenReview for another audience: %v, want %v", err, errNotAuthenticated)
	}
	if h := mustHeader(t, token); h.Algorithm != "RS256" || h.KeyID == "" {
		t.Errorf("token header %+v, want RS256 and a kid", h)
	}

	pod := c.createPod(t, "bound")
	if _, err := c.requestToken(t.Context(), time.Hour, boundTo(pod), audience); err != nil {
		t.Errorf("token bound to a Pod: %v", err)
	}

	c.stop()
	c.startPlain("https://issuer.test", private, public)
	if err := c.review(t.Context(), token, audience); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}
