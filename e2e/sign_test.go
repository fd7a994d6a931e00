package e2e

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// TestSignedTokens has the API server issue tokens through the provider, and
// asks both kinds of relying party about them.
func TestSignedTokens(t *testing.T) {
	lab := newLab(t)
	p := lab.newProvider(calm)
	p.init()
	p.start()
	c := lab.newCluster()
	c.start(p.issuer, p.signerFlags()...)
	d := discover(t, p.issuer, lab.ca.client())

	t.Run("header", func(t *testing.T) { testHeader(t, p, c) })
	t.Run("claims", func(t *testing.T) { testClaims(t, c, d) })
	t.Run("audiences", func(t *testing.T) { testAudiences(t, c, d) })
	t.Run("lifetime", func(t *testing.T) { testLifetime(t, c, d) })
	t.Run("forgery", func(t *testing.T) { testForgery(t, c, d) })
	t.Run("key set", func(t *testing.T) { testKeySet(t, p, c, d) })
	p.stop()
}

func testHeader(t *testing.T, p *provider, c *cluster) {
	active := inPhase(p.mustKeys(), "active")
	if len(active) != 1 {
		t.Fatalf("active keys %s, want one", active)
	}
	token := c.mustToken(t, audience)
	if got, want := mustHeader(t, token), (tokenHeader{Algorithm: "RS256", KeyID: active[0], Type: "JWT"}); got != want {
		t.Errorf("header %+v, want %+v", got, want)
	}
}

func testClaims(t *testing.T, c *cluster, d discovered) {
	token := c.mustToken(t, audience)
	id, err := d.verifyWith(&oidc.Config{ClientID: audience}, token)
	if err != nil {
		t.Fatalf("go-oidc: %v", err)
	}
	if id.Subject != subject {
		t.Errorf("subject %q, want %q", id.Subject, subject)
	}
	var claims struct {
		Kubernetes struct {
			Namespace      string `json:"namespace"`
			ServiceAccount struct {
				Name string `json:"name"`
				UID  string `json:"uid"`
			} `json:"serviceaccount"`
		} `json:"kubernetes.io"`
	}
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	k := claims.Kubernetes
	if k.Namespace != namespace || k.ServiceAccount.Name != serviceAccount || k.ServiceAccount.UID == "" {
		t.Errorf("claims %+v, want those of %s", k, subject)
	}
	if err := c.review(t.Context(), token, audience); err != nil {
		t.Error(err)
	}
}

func testAudiences(t *testing.T, c *cluster, d discovered) {
	token := c.mustToken(t, "first", "second")
	for _, wanted := range []string{"first", "second"} {
		if _, err := d.verifyWith(&oidc.Config{ClientID: wanted}, token); err != nil {
			t.Errorf("go-oidc, audience %q: %v", wanted, err)
		}
		if err := c.review(t.Context(), token, wanted); err != nil {
			t.Errorf("audience %q: %v", wanted, err)
		}
	}
	if _, err := d.verifyWith(&oidc.Config{ClientID: audience}, token); err == nil || !strings.Contains(err.Error(), "expected audience") {
		t.Errorf("go-oidc, an audience that the token does not name: %v, want a word about audiences", err)
	}
	if err := c.review(t.Context(), token, audience); !errors.Is(err, errNotAuthenticated) {
		t.Errorf("an audience that the token does not name: %v, want %v", err, errNotAuthenticated)
	}
}

// testLifetime asks for more than the signer allows: the API server is to learn
// the longest lifetime from us and shorten the token, not fail.
func testLifetime(t *testing.T, c *cluster, d discovered) {
	token, err := c.requestToken(t.Context(), 24*time.Hour, nil, audience)
	if err != nil {
		t.Fatal(err)
	}
	id, err := d.verifyWith(&oidc.Config{ClientID: audience}, token)
	if err != nil {
		t.Fatal(err)
	}
	if life := id.Expiry.Sub(id.IssuedAt); life != shortest {
		t.Errorf("asked for a day, the token lives %s, want %s", life, shortest)
	}
}

// testForgery shows that a "yes" from the relying parties means something.
func testForgery(t *testing.T, c *cluster, d discovered) {
	parts := strings.Split(c.mustToken(t, audience), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(payload), serviceAccount, "admin", 1)
	if forged == string(payload) {
		t.Fatalf("nothing to forge in %s", payload)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(forged))
	token := strings.Join(parts, ".")
	if _, err := d.verifyWith(&oidc.Config{ClientID: audience}, token); !badSignature(err) {
		t.Errorf("go-oidc, a forged payload: %v, want a bad signature", err)
	}
	if err := c.review(t.Context(), token, audience); !errors.Is(err, errNotAuthenticated) {
		t.Errorf("a forged payload: %v, want %v", err, errNotAuthenticated)
	}
}

// testKeySet compares our JWKS with the one that the API server makes from what
// it fetched over the socket.
func testKeySet(t *testing.T, p *provider, c *cluster, d discovered) {
	meta := d.metadata(t)
	if meta.Issuer != p.issuer || meta.JWKSURI != p.jwksURL() {
		t.Errorf("metadata %+v, want issuer %s and jwks_uri %s", meta, p.issuer, p.jwksURL())
	}
	set, _, err := fetchKeySet(t.Context(), d.client, meta.JWKSURI)
	if err != nil {
		t.Fatal(err)
	}
	ours := thumbprints(t, set)
	if len(ours) != 2 {
		t.Errorf("JWKS has kids %s, want an active key and a standby", slices.Sorted(maps.Keys(ours)))
	}
	eventually(t, "the API server's JWKS like ours", recovery, func() error {
		data, err := c.client.Discovery().RESTClient().Get().AbsPath("/openid/v1/jwks").DoRaw(t.Context())
		if err != nil {
			return err
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(data, &set); err != nil {
			return err
		}
		if theirs := thumbprints(t, set); !maps.Equal(ours, theirs) {
			return fmt.Errorf("ours has %v, theirs %v", ours, theirs)
		}
		return nil
	})
}

// thumbprints maps kids to what RFC 7638 makes of their keys.
func thumbprints(t *testing.T, set jose.JSONWebKeySet) map[string]string {
	t.Helper()
	prints := make(map[string]string)
	for _, key := range set.Keys {
		thumbprint, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		prints[key.KeyID] = base64.RawURLEncoding.EncodeToString(thumbprint)
	}
	return prints
}
