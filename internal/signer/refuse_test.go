package signer_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc/status"
	externaljwt "k8s.io/externaljwt/apis/v1"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/signer"
	"oidc-provider/rotation"
)

// What the log says is the error of CheckClaims.
func TestClaimsErrorHasDetails(t *testing.T) {
	keys := newKeys(t, jose.ES256)
	now := time.Now()
	s, err := keys.Signer(now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ claims, want, hint string }{
		{encode(`{}`), "iss is missing", "--service-account-issuer=" + issuer},
		{encode(`{"iss":"https://evil.test"}`), `it is "https://evil.test", want "` + issuer + `"`, "--service-account-issuer=" + issuer},
		{encode(`{"iss":"` + strings.Repeat("x", 201) + `"}`), `it is "` + strings.Repeat("x", 200) + `"..., want`, issuer},
		{goodClaims(25 * time.Hour), "that is 24h0m0s", "{policy.maxTokenLifetime}"},
	} {
		err := signer.CheckClaims(tt.claims, s, now)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(hint.Of(err), tt.hint) {
			t.Errorf("%.60s: got %v (hint: %s), want %q and %q", tt.claims, err, hint.Of(err), tt.want, tt.hint)
		}
	}
}

// The requester of a token learns the reason, and only the log has the details.
func TestRefusalsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t, jose.ES256)
		var text strings.Builder
		server := signer.NewServer(keys, 0, slog.New(slog.NewTextHandler(&text, nil)).With("issuer", issuer))
		sign := func(claims string) error {
			_, err := server.Sign(t.Context(), &externaljwt.SignJWTRequest{Claims: claims})
			return err
		}
		expect := func(what string, want ...string) {
			t.Helper()
			lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
			text.Reset()
			if len(lines) != len(want) && !(len(want) == 0 && lines[0] == "") {
				t.Fatalf("%s: logged %q, want %d lines", what, lines, len(want))
			}
			for i := range want {
				if !strings.Contains(lines[i], want[i]) || !strings.Contains(lines[i], "issuer="+issuer+" ") {
					t.Errorf("%s: logged %s, want %s", what, lines[i], want[i])
				}
			}
		}
		if err := sign(goodClaims(time.Hour)); err != nil {
			t.Fatal(err)
		}
		expect("a signature")

		for n := range 5 {
			err := sign(encode(fmt.Sprintf(`{"iss":"https://evil%d.test","exp":1}`, n)))
			if got := status.Convert(err).Message(); got != "iss is not the issuer of this signer" {
				t.Errorf("the requester gets %q", got)
			}
		}
		_ = sign(encode(`{}`))
		expect("two reasons", `evil0.test`, `err="iss is missing"`)

		time.Sleep(10 * time.Second)
		_ = sign(encode(`{"iss":"https://evil.test","exp":1}`))
		_ = sign(encode(`{}`))
		expect("after the interval", "suppressed=4 err=", `err="iss is missing"`)

		keys.err = &rotation.StaleError{Age: 25 * time.Hour, Limit: 24 * time.Hour}
		_ = sign(goodClaims(time.Hour))
		keys.err = &rotation.StaleError{Age: 26 * time.Hour, Limit: 24 * time.Hour}
		if err := sign(goodClaims(time.Hour)); !strings.Contains(err.Error(), "the ring was last read 26h0m0s ago") {
			t.Errorf("without fresh knowledge the requester gets %v", err)
		}
		expect("without fresh knowledge", "the ring was last read 25h0m0s ago")

		keys.err = errors.New("no key in /var/lib/keys")
		if err := sign(goodClaims(time.Hour)); strings.Contains(err.Error(), "/var/lib") || !strings.Contains(err.Error(), "no key can sign now") {
			t.Errorf("without a key the requester gets %v", err)
		}
		expect("without a key", "no key in /var/lib/keys")
	})
}
