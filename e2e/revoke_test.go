package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// TestRevokedKey takes the signing key away from a running cluster, as after a
// leak. Tokens must go on being issued, and those of the key must be worthless
// to everybody who fetches the keys.
func TestRevokedKey(t *testing.T) {
	lab := newLab(t)
	p := lab.newProvider(calm)
	p.init()
	p.start()
	c := lab.newCluster()
	c.start(p.issuer, p.signerFlags()...)

	standby := inPhase(p.mustKeys(), "next")
	if len(standby) != 1 {
		t.Fatalf("standby keys %s, want one", standby)
	}
	leaked := c.mustToken(t, audience)
	revoked := mustHeader(t, leaked).KeyID
	checkTokens(t, c, discover(t, p.issuer, lab.ca.client()), "issued before the revocation", []string{leaked})

	p.must("keys", "revoke", revoked, "--store", p.store, "--force")
	began := time.Now()
	fresh := c.awaitHandOver(t, revoked, 5*time.Second)
	if kid := mustHeader(t, fresh).KeyID; kid != standby[0] {
		t.Errorf("key %s signs after the revocation, want the standby %s", kid, standby[0])
	}
	eventually(t, "go-oidc rejects the revoked key", 5*time.Second, func() error {
		_, err := discover(t, p.issuer, lab.ca.client()).verifyWith(&oidc.Config{ClientID: audience}, leaked)
		if !badSignature(err) {
			return fmt.Errorf("want a bad signature, got: %v", err)
		}
		return nil
	})
	if _, err := p.verify(t.Context(), leaked, audience); !refusedFor(err, "unknown kid") {
		t.Errorf("verify a token of the revoked key: %v, want an unknown kid", err)
	}
	t.Logf("revoked for signers and relying parties after %s", time.Since(began).Round(time.Millisecond))
	c.awaitNo(t, leaked)
	t.Logf("revoked for TokenReview after %s", time.Since(began).Round(time.Millisecond))

	checkTokens(t, c, discover(t, p.issuer, lab.ca.client()), "issued after the revocation", []string{fresh, c.mustToken(t, audience)})
	p.stop()
}
