package web_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/discovery"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// A program that accepts ServiceAccount tokens needs go-oidc and the issuer's
// URL, and neither a kubeconfig nor an API server.
func Example_relyingParty() {
	issuer, token := serveIssuer()

	ctx := context.Background()
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		log.Fatal(err)
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: "my-program"}) // the audience: always check it
	verified, err := verifier.Verify(ctx, token)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(verified.Subject)
	// Output: system:serviceaccount:default:demo
}

// serveIssuer replaces a cluster: it serves an issuer's documents and issues
// a token.
func serveIssuer() (issuer, token string) {
	s := httptest.NewUnstartedServer(nil)
	issuer = "http://" + s.Listener.Addr().String()
	parsed, err := discovery.ParseIssuer(issuer)
	if err != nil {
		log.Fatal(err)
	}
	ring, err := rotation.New(issuer, rotation.Policy{}, time.Now(), rotation.GenerateKey)
	if err != nil {
		log.Fatal(err)
	}
	docs := web.NewDocuments(web.DocumentsConfig{Issuer: parsed})
	if err := docs.Publish(context.Background(), rotation.NewView(ring)); err != nil {
		log.Fatal(err)
	}
	site := web.NewSite(web.SiteConfig{}, docs.Slot())
	s.Config = &http.Server{Handler: web.Public(site, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))}
	s.Start()

	claims := fmt.Sprintf(`{"iss":%q,"aud":["my-program"],"sub":"system:serviceaccount:default:demo","exp":%d}`, issuer, time.Now().Add(time.Hour).Unix())
	payload := base64.RawURLEncoding.EncodeToString([]byte(claims))
	header, signature, err := ring.Active(time.Now()).SigningKey().Sign(payload)
	if err != nil {
		log.Fatal(err)
	}
	return issuer, header + "." + payload + "." + signature
}
