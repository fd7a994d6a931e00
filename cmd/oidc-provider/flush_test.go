package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
)

// go-oidc accepts a revoked key from its cache until a flush token makes it fetch the
// key set, and never accepts the flush token.
func TestFlushToken(t *testing.T) {
	t.Parallel()
	p := serve(t, []string{"--algorithm", "ES256"})
	provider, err := oidc.NewProvider(t.Context(), p.issuer)
	if err != nil {
		t.Fatal(err)
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: "demo"})
	verify := func(token string) error { _, err := verifier.Verify(t.Context(), token); return err }
	sign := func(arguments ...string) string {
		return strings.TrimSpace(p.print(append([]string{"token", "--store", "keys", "--audience", "demo"}, arguments...)...))
	}
	leaked := sign()
	if err := verify(leaked); err != nil {
		t.Fatal(err)
	}
	kid := activeKID(t, p.print("keys", "list", "--store", "keys", "-o", "json"))
	p.must("keys", "revoke", kid, "--store", "keys", "--force")
	p.eventually("the revoked key leaves the key set", func() bool {
		return get(p.issuer+"/openid/v1/jwks") == http.StatusOK && !strings.Contains(fetchBody(p.issuer+"/openid/v1/jwks"), kid)
	})
	if err := verify(leaked); err != nil {
		t.Fatalf("go-oidc does not cache any more, and this test shows nothing: %v", err)
	}
	for _, arguments := range [][]string{{}, {"--pod", "p", "--node", "n"}, {"--duration", "1m"}, {"-n", "other"},
		{"--audience", "second"}} {
		if err := verify(sign(append(arguments, "--flush")...)); err == nil {
			t.Errorf("a flush token made with %q was accepted", arguments)
		}
	}
	if err := verify(leaked); err == nil {
		t.Error("the revoked key is still accepted after a flush token")
	}
	if err := verify(sign()); err != nil {
		t.Errorf("a token of the next key: %v", err)
	}
	p.stop()
}

// activeKID returns the kid of the active key in the output of keys list.
func activeKID(t *testing.T, list string) string {
	t.Helper()
	var ring struct{ Keys []struct{ KID, Phase string } }
	if err := json.Unmarshal([]byte(list), &ring); err != nil {
		t.Fatal(err)
	}
	for _, k := range ring.Keys {
		if k.Phase == "active" {
			return k.KID
		}
	}
	t.Fatalf("no key is active:\n%s", list)
	return ""
}

// print returns what a command prints.
func (p *process) print(args ...string) string {
	p.t.Helper()
	cmd := p.command(args...)
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}
