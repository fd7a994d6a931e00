package web_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// Files has exactly what is served.
func TestFiles(t *testing.T) {
	issuer, err := discovery.ParseIssuer("https://oidc.example.com/c/1")
	if err != nil {
		t.Fatal(err)
	}
	docs := web.NewDocuments(web.DocumentsConfig{Issuer: issuer})
	if files := docs.Files(); files != nil || docs.Published() || len(docs.KeyIDs()) != 0 {
		t.Errorf("before the first key set: files %v, kids %v, published %t", files, docs.KeyIDs(), docs.Published())
	}
	key, err := jwks.Generate(jose.ES256, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := docs.Show([]jwks.PublicKey{key.PublicKey}); err != nil {
		t.Fatal(err)
	}
	if !docs.Published() || !slices.Equal(docs.KeyIDs(), []string{key.KeyID()}) || docs.Issuer() != issuer {
		t.Errorf("published %t, kids %v, issuer %v", docs.Published(), docs.KeyIDs(), docs.Issuer())
	}
	h := web.Public(newSite(docs), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	served := map[string][]byte{}
	for _, path := range []string{"/c/1" + configuration, "/c/1" + keySet} {
		served[path] = []byte(body(t, do(t, h, http.MethodGet, path)))
		if !json.Valid(served[path]) {
			t.Errorf("%s: %s", path, served[path])
		}
	}
	if diff := cmp.Diff(served, docs.Files()); diff != "" {
		t.Errorf("served and in files (-served +files):\n%s", diff)
	}
}

func TestSetMaxAge(t *testing.T) {
	docs := newDocuments(t, "https://oidc.example.com", rotation.Policy{
		PublishAhead: rotation.Duration(time.Hour), ClockSkew: rotation.Duration(10 * time.Minute),
	})
	h := web.Public(newSite(docs), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	before := do(t, h, http.MethodGet, keySet)
	if err := docs.SetMaxAge(time.Minute, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{keySet: "public, max-age=60", configuration: "public, max-age=1200"} {
		if got := do(t, h, http.MethodGet, path).Header.Get("Cache-Control"); got != want {
			t.Errorf("%s: %s, want %s, at most the limit of the policy", path, got, want)
		}
	}
	if after := do(t, h, http.MethodGet, keySet); after.Header.Get("ETag") != before.Header.Get("ETag") {
		t.Error("another max-age changes the ETag")
	}

	empty := web.NewDocuments(web.DocumentsConfig{Issuer: docs.Issuer()})
	if err := empty.SetMaxAge(time.Minute, time.Minute); err != nil || empty.Published() {
		t.Errorf("before the first key set: %v, published %t", err, empty.Published())
	}
}

// Whatever algorithm the policy of an issuer changes to is advertised already, by an
// issuer with one key.
func TestAdvertisesEveryAlgorithm(t *testing.T) {
	docs := newDocuments(t, "https://a.test", rotation.Policy{})
	h := web.Public(newSite(docs), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	var metadata discovery.Metadata
	if err := json.Unmarshal([]byte(body(t, do(t, h, http.MethodGet, configuration))), &metadata); err != nil {
		t.Fatal(err)
	}
	want := []string{"RS256", "ES256", "ES384", "ES512"}
	if diff := cmp.Diff(want, metadata.IDTokenSigningAlgValuesSupported); diff != "" {
		t.Errorf("advertised algorithms (-want +got):\n%s", diff)
	}
}
