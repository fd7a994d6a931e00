package e2e

import (
	"slices"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
)

// TestMoveCluster takes over a cluster that has signed with its own sa.key. For
// those who hold its tokens or verify them, nothing may change.
func TestMoveCluster(t *testing.T) {
	lab := newLab(t)
	private, public := writeServiceAccountKeys(t, lab.dir)
	p := lab.newProvider(calm)
	c := lab.newCluster()
	c.startPlain(p.issuer, private, public)
	old := []string{c.mustToken(t, audience), c.mustToken(t, audience)}
	kid := mustHeader(t, old[0]).KeyID
	c.stop()

	p.must(append([]string{"keys", "import", private, "--store", p.store, "--issuer", p.issuer}, p.policy.flags()...)...)
	p.start()
	c.start(p.issuer, p.signerFlags()...)
	d := discover(t, p.issuer, lab.ca.client())

	if active := inPhase(p.mustKeys(), "active"); !slices.Equal(active, []string{kid}) {
		t.Errorf("active keys %s, want the imported %s", active, kid)
	}
	checkTokens(t, c, d, "issued before the move", old)
	moved := c.mustToken(t, audience)
	if got := mustHeader(t, moved).KeyID; got != kid {
		t.Errorf("kid %s after the move, want %s as before", got, kid)
	}
	checkTokens(t, c, d, "issued after the move", []string{moved})

	// The move ends when the imported key retires.
	eventually(t, "keys rotate", 3*recovery, func() error {
		_, err := p.run(t.Context(), "", "keys", "rotate", "--store", p.store)
		return err
	})
	rotated := c.awaitHandOver(t, kid, recovery)
	checkTokens(t, c, d, "issued after a rotation", []string{rotated})
	checkTokens(t, c, discover(t, p.issuer, lab.ca.client()), "issued before the move, after a rotation", append(old, moved))
	p.stop()
}

// checkTokens verifies with go-oidc and with TokenReview.
func checkTokens(t *testing.T, c *cluster, d discovered, which string, tokens []string) {
	t.Helper()
	for i, token := range tokens {
		if _, err := d.verifyWith(&oidc.Config{ClientID: audience}, token); err != nil {
			t.Errorf("go-oidc, token %d %s: %v", i, which, err)
		}
		if err := c.review(t.Context(), token, audience); err != nil {
			t.Errorf("token %d %s: %v", i, which, err)
		}
	}
}
