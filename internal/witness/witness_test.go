package witness_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/witness"
	"oidc-provider/jwks"
)

func TestAsk(t *testing.T) {
	key, err := jwks.Generate(jose.ES256, 0)
	if err != nil {
		t.Fatal(err)
	}
	set, err := jwks.Marshal([]jwks.PublicKey{key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(set) }))
	t.Cleanup(good.Close)
	lost := httptest.NewServer(http.RedirectHandler(good.URL, http.StatusFound))
	t.Cleanup(lost.Close)
	silent := listenSilently(t)

	// One that does not answer does not speak for the others.
	c := witness.Config{URLs: []string{"http://" + silent, lost.URL, good.URL}}
	failed := make(map[string]error)
	seen, err := c.Ask(t.Context(), "https://oidc.example.com", func(url string, err error) { failed[url] = err })
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || seen[0].By != good.URL || len(seen[0].KeyIDs) != 1 || seen[0].KeyIDs[0] != key.KeyID() {
		t.Errorf("got %+v", seen)
	}
	if len(failed) != 2 || failed[lost.URL] == nil || failed["http://"+silent] == nil {
		t.Errorf("failed: %v", failed)
	}
	for _, url := range []string{"example", "ftp://host/jwks", "https://user:hunter2@host/jwks", "https://"} {
		_, err := witness.Config{URLs: []string{url}}.Ask(t.Context(), "https://oidc.example.com", nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// Keys that this program would not publish are unknown. They do not hide the others.
func TestAskWithStrangeKeys(t *testing.T) {
	key, err := jwks.Generate(jose.ES256, 0)
	if err != nil {
		t.Fatal(err)
	}
	set, err := jwks.Marshal([]jwks.PublicKey{key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	rsa := func(n int, e string) string {
		return `{"kty":"RSA","kid":"strange","e":"` + e + `","n":"` + strings.Repeat("_", n) + `"},`
	}
	for name, tt := range map[string]struct {
		before string
		failed bool
	}{
		"8192 bits":         {before: rsa(1366, "AQAB")},
		"1024 bits":         {before: rsa(171, "AQAB")},
		"exponent 1":        {before: rsa(342, "AQ")},
		"an even exponent":  {before: rsa(342, "AQAA")},
		"another type":      {before: `{"kty":"OKP","crv":"Ed25519","kid":"strange","x":"AAAA"},`},
		"for encryption":    {before: `{"kty":"EC","use":"enc","kid":"strange"},`},
		"not even an entry": {before: `7,null,[],`},
		"a private key":     {before: `{"kty":"EC","d":"AAAA","kid":"strange"},`, failed: true},
		"a thousand":        {before: strings.Repeat(`{},`, 1000), failed: true},
	} {
		text := strings.Replace(string(set), `[`, `[`+tt.before, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }))
		failed := 0
		seen, err := witness.Config{URLs: []string{server.URL}}.Ask(t.Context(), "https://oidc.example.com", func(string, error) { failed++ })
		server.Close()
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.failed && failed == 1:
		case tt.failed || len(seen) != 1 || len(seen[0].KeyIDs) != 1 || seen[0].KeyIDs[0] != key.KeyID():
			t.Errorf("%s: got %+v, %d failed", name, seen, failed)
		}
	}
}

// By default the issuer's own key set is asked if it is https.
func TestAskByDefault(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is sent
	for issuer, want := range map[string]string{"https://oidc.example.com/a": "https://oidc.example.com/a/openid/v1/jwks", "http://localhost": ""} {
		asked := ""
		if _, err := (witness.Config{}).Ask(ctx, issuer, func(url string, _ error) { asked += url }); err != nil || asked != want {
			t.Errorf("%s: asked %q, %v; want %q", issuer, asked, err, want)
		}
	}
	if _, err := (witness.Config{URLs: []string{"none"}}).Ask(ctx, "https://oidc.example.com", func(url string, _ error) { t.Errorf("asked %s", url) }); err != nil {
		t.Error(err)
	}
}

// listenSilently returns an address that takes connections and never answers.
func listenSilently(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
