package web_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// get asks for a path of a host, and returns the status and which issuer the
// answer is about.
func getFrom(h http.Handler, host, path string) (int, string) {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.Host = host
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	text, _ := io.ReadAll(rec.Result().Body)
	about := ""
	if m := regexp.MustCompile(`"issuer":"([^"]*)"`).FindSubmatch(text); m != nil {
		about = string(m[1])
	}
	return rec.Code, about
}

func TestIssuersAreToldApart(t *testing.T) {
	var slots []*web.Slot
	for _, issuer := range []string{
		"https://a.test", "https://a.test/c/1", "https://a.test/c/2/", "https://b.test:8443/c/1", "https://b.test/c/3", "https://[::1]/six",
	} {
		slots = append(slots, newDocuments(t, issuer, rotation.Policy{}).Slot())
	}
	site := web.NewSite(web.SiteConfig{}, slots...)
	h := web.Public(site, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	for _, tt := range []struct{ host, path, issuer string }{
		{"a.test", configuration, "https://a.test"},
		{"A.Test:8080", configuration, "https://a.test"},
		{"a.test.", "/" + configuration, "https://a.test"},
		{"a.test", "/c/1" + configuration, "https://a.test/c/1"},
		{"a.test", configuration + "/c/1", "https://a.test/c/1"},
		{"a.test", "/c/1/" + configuration, "https://a.test/c/1"},
		{"a.test", "/c/2" + configuration, "https://a.test/c/2/"},
		{"b.test", "/c/1" + configuration, "https://b.test:8443/c/1"},
		{"b.test:443", "/c/3" + configuration, "https://b.test/c/3"},
		{"[::1]", "/six" + configuration, "https://[::1]/six"},
		{"[::1]:8080", "/six" + configuration, "https://[::1]/six"},
		// What one host has is found under an address.
		{"10.0.0.1:8080", configuration, "https://a.test"},
		{"localhost", "/c/3" + configuration, "https://b.test/c/3"},
		{"[::2]:8080", "/c/3" + configuration, "https://b.test/c/3"},
		// Under a name it is not: that may be one of an issuer that is gone.
		{"c.test", configuration, ""},
		{"c.test:8080", "/c/3" + configuration, ""},
		// What two have is not, nor what another host has.
		{"10.0.0.1:8080", "/c/1" + configuration, ""},
		{"b.test", configuration, ""},
		{"a.test", "/c/3" + configuration, ""},
		{"a.test", "/C/1" + configuration, ""},
		{"a.test", "/c/4" + configuration, ""},
		{"", "/c/1" + configuration, ""},
	} {
		status, issuer := getFrom(h, tt.host, tt.path)
		if want := map[bool]int{true: 200, false: 404}[tt.issuer != ""]; status != want || issuer != tt.issuer {
			t.Errorf("%s%s: %d for %q, want %d for %q", tt.host, tt.path, status, issuer, want, tt.issuer)
		}
	}

	site.Set(slots[1:2])
	if status, _ := getFrom(h, "a.test", configuration); status != 404 {
		t.Errorf("an issuer that is gone: %d", status)
	}
	if status, _ := getFrom(h, "b.test", "/c/1"+configuration); status != 404 {
		t.Errorf("an issuer whose host is gone: %d", status)
	}
	anyHost := web.NewSite(web.SiteConfig{AnyHost: true}, slots[1:2]...)
	h = web.Public(anyHost, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if status, issuer := getFrom(h, "proxy", "/c/1"+configuration); issuer != "https://a.test/c/1" {
		t.Errorf("any host: %d for %q", status, issuer)
	}
}

// One that has nothing to show does not concern the others.
func TestOneOfManyHasNothingYet(t *testing.T) {
	issuer, err := discovery.ParseIssuer("https://a.test/new")
	if err != nil {
		t.Fatal(err)
	}
	site := web.NewSite(web.SiteConfig{},
		newDocuments(t, "https://a.test/old", rotation.Policy{}).Slot(),
		web.NewDocuments(web.DocumentsConfig{Issuer: issuer}).Slot())
	h := web.Public(site, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	for path, want := range map[string]int{"/old" + keySet: 200, "/new" + keySet: 503, "/new" + configuration: 503, "/other" + keySet: 404} {
		if status, _ := getFrom(h, "a.test", path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

// A request while documents are replaced gets the old ones or the new ones.
func TestNoHalfChange(t *testing.T) {
	issuer, err := discovery.ParseIssuer("https://a.test")
	if err != nil {
		t.Fatal(err)
	}
	const changes = 200
	keys := map[string][]jwks.PublicKey{}
	for _, alg := range []jose.SignatureAlgorithm{jose.ES256, jose.ES384} {
		key, err := jwks.Generate(alg, 0)
		if err != nil {
			t.Fatal(err)
		}
		keys[string(alg)] = []jwks.PublicKey{key.PublicKey}
	}
	show := func(alg string, docs *web.Documents) *web.Documents {
		if err := docs.Show(keys[alg]); err != nil {
			t.Fatal(err)
		}
		return docs
	}
	var current atomic.Pointer[web.Documents]
	current.Store(show("ES256", web.NewDocuments(web.DocumentsConfig{Issuer: issuer})))
	site := web.NewSite(web.SiteConfig{AnyHost: true}, web.NewSlot(issuer, current.Load))
	h := web.Public(site, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				for _, path := range []string{configuration, keySet} {
					resp := do(t, h, http.MethodGet, path)
					text := body(t, resp)
					one, other := strings.Contains(text, `"ES256"`), strings.Contains(text, `"ES384"`)
					if mixed := path == keySet && one == other; resp.StatusCode != 200 || mixed || resp.Header.Get("Content-Length") != fmt.Sprint(len(text)) {
						t.Errorf("%s: %s, length %s\n%s", path, resp.Status, resp.Header.Get("Content-Length"), text)
						return
					}
				}
			}
		})
	}
	for n := range changes {
		alg := []string{"ES384", "ES256"}[n%2]
		if n%3 == 0 {
			current.Store(show(alg, web.NewDocuments(web.DocumentsConfig{Issuer: issuer})))
			continue
		}
		docs := web.NewDocuments(web.DocumentsConfig{Issuer: issuer})
		current.Store(show([]string{"ES256", "ES384"}[n%2], docs))
		show(alg, docs)
	}
	stop()
	readers.Wait()
}

func TestMaxAgeChanges(t *testing.T) {
	docs := newDocuments(t, "https://a.test", rotation.Policy{PublishAhead: rotation.Duration(time.Hour), ClockSkew: rotation.Duration(10 * time.Minute)})
	h := web.Public(newSite(docs), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	before := body(t, do(t, h, http.MethodGet, keySet))
	if err := docs.SetMaxAge(time.Minute, 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	// The second is bounded by the policy, as before.
	for path, want := range map[string]string{keySet: "60", configuration: "1200"} {
		if got := do(t, h, http.MethodGet, path).Header.Get("Cache-Control"); got != "public, max-age="+want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if after := body(t, do(t, h, http.MethodGet, keySet)); after != before {
		t.Errorf("the key set has changed to %s", after)
	}
}
