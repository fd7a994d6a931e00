package check_test

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/discovery"
	"oidc-provider/internal/check"
	"oidc-provider/internal/serviceaccount"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// Only the token that was signed verifies, and every refusal has a reason.
func FuzzVerify(f *testing.F) {
	s := httptest.NewUnstartedServer(nil)
	issuer, err := discovery.ParseIssuer("http://" + s.Listener.Addr().String())
	if err != nil {
		f.Fatal(err)
	}
	ring, err := rotation.New(issuer.String(), rotation.Policy{Algorithm: jose.ES256}, time.Now(), rotation.GenerateKey)
	if err != nil {
		f.Fatal(err)
	}
	docs := web.NewDocuments(web.DocumentsConfig{Issuer: issuer})
	if err := docs.Publish(context.Background(), rotation.NewView(ring)); err != nil {
		f.Fatal(err)
	}
	site := web.NewSite(web.SiteConfig{}, docs.Slot())
	s.Config = &http.Server{Handler: web.Public(site, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))}
	s.Start()
	defer s.Close()

	signer, err := rotation.NewView(ring).Signer(time.Now())
	if err != nil {
		f.Fatal(err)
	}
	request := serviceaccount.Request{Audiences: []string{"demo"}, Namespace: "default", ServiceAccount: "default", Lifetime: time.Hour}
	good, err := request.Sign(signer, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	request.Lifetime = time.Second
	expired, err := request.Sign(signer, time.Now().Add(-time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	header, rest, _ := strings.Cut(good, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	encode := base64.RawURLEncoding.EncodeToString
	for _, token := range []string{
		good, expired, "", ".", "..", "...", "a.b.c", good + ".", header + "..", header + "." + claims + ".", "." + claims + "." + signature,
		encode([]byte(`{"alg":"none"}`)) + "." + claims + ".", encode([]byte(`{"alg":"HS256","kid":"x"}`)) + "." + claims + "." + signature,
		header + "." + encode([]byte(`{"exp":1e308,"nbf":-1e308,"aud":{},"iss":[]}`)) + "." + signature, header + "." + encode([]byte(`null`)) + "." + signature,
	} {
		f.Add(token)
	}
	v, err := check.NewVerifier(context.Background(), check.Options{Issuer: issuer.String()}, "demo")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := v.Verify(context.Background(), token); err != nil {
			if err.Error() == "" {
				t.Error("refused without a word")
			}
			return
		}
		if got := strings.Split(token, "."); got[0] != header || got[1] != claims {
			t.Errorf("verified: %s", token)
		}
	})
}
