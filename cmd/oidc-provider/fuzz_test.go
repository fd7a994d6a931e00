package main

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
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// No text verifies but the token that was signed, and none makes the
// explanation fail.
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
	request := tokenRequest{audiences: []string{"demo"}, namespace: "default", serviceAccount: "default", duration: time.Hour}
	good, err := request.sign(signer, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	request.duration = time.Second
	expired, err := request.sign(signer, time.Now().Add(-time.Hour))
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
	v, err := newVerifier(context.Background(), check.Options{Issuer: issuer.String()}, "demo")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := v.verify(context.Background(), token); err != nil {
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
