package web_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"oidc-provider/discovery"
	"oidc-provider/web"
)

func TestReadyz(t *testing.T) {
	passes := web.Check{Name: "keys", Run: func() (string, error) { return "a signs", nil }}
	fails := web.Check{Name: "issuers", Run: func() (string, error) { return "", errors.New("none is ready") }}
	advises := web.Check{Name: "rotation", Advisory: true, Run: fails.Run}
	for _, tt := range []struct {
		name    string
		checks  []web.Check
		status  int
		brief   string
		verbose string
	}{
		{"no check", nil, 200, "ok\n", "ready\n"},
		{"passes", []web.Check{passes}, 200, "ok\n", "[+]keys ok: a signs\nready\n"},
		{"an advisory check fails", []web.Check{advises, passes}, 200, "ok\n",
			"[!]rotation: none is ready\n[+]keys ok: a signs\nready\n"},
		{"a check fails", []web.Check{passes, fails}, 503, "not ready: see /readyz?verbose\n",
			"[+]keys ok: a signs\n[-]issuers failed: none is ready\nnot ready\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var selected []string
			h := web.Admin(func(issuer string) []web.Check {
				selected = append(selected, issuer)
				return tt.checks
			}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			for path, want := range map[string]string{"/readyz": tt.brief, "/readyz?verbose": tt.verbose} {
				if resp := do(t, h, http.MethodGet, path); resp.StatusCode != tt.status || body(t, resp) != want {
					t.Errorf("%s: %s, want %d with %q", path, resp.Status, tt.status, want)
				}
			}
			do(t, h, http.MethodGet, "/readyz?issuer=https://a.test/c")
			if want := "||https://a.test/c"; strings.Join(selected, "|") != want {
				t.Errorf("checks were run for %q", selected)
			}
		})
	}
}

// A text with several lines, as errors.Join makes, must not look like more checks.
func TestReadyzHasOneLinePerCheck(t *testing.T) {
	const text = "a\n[+]keys ok\r\nready\n\u2028b"
	checks := []web.Check{
		{Name: "detail", Run: func() (string, error) { return text, nil }},
		{Name: "advice", Advisory: true, Run: func() (string, error) { return "", errors.New(text) }},
		{Name: "failure", Run: func() (string, error) { return "", errors.Join(errors.New("a"), errors.New("b")) }},
	}
	h := web.Admin(func(string) []web.Check { return checks }, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	const line = "a; [+]keys ok; ready; b\n"
	want := "[+]detail ok: " + line + "[!]advice: " + line + "[-]failure failed: a; b\nnot ready\n"
	if got := body(t, do(t, h, http.MethodGet, "/readyz?verbose")); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLivezAndMetrics(t *testing.T) {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "an_example"}))
	h := web.Admin(func(string) []web.Check { panic("a defect") }, metrics, slog.New(slog.DiscardHandler))
	for path, want := range map[string]int{"/livez": 200, "/metrics": 200, "/readyz": 500, "/other": 404} {
		if resp := do(t, h, http.MethodGet, path); resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
	if text := body(t, do(t, h, http.MethodGet, "/metrics")); !strings.Contains(text, "\nan_example 0\n") {
		t.Errorf("metrics:\n%s", text)
	}
}

// Errors of any kind, and the state of the process, must not be cached.
func TestErrorsAreNotStored(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	public, _ := newPublic(t, "https://oidc.example.com/a")
	parsed, err := discovery.ParseIssuer("https://oidc.example.com")
	if err != nil {
		t.Fatal(err)
	}
	empty := web.Public(newSite(web.NewDocuments(web.DocumentsConfig{Issuer: parsed})), prometheus.NewRegistry(), log)
	failing := web.Admin(func(issuer string) []web.Check {
		if issuer == "panic" {
			panic("a defect")
		}
		return []web.Check{{Name: "keys", Run: func() (string, error) { return "", errors.New("none") }}}
	}, prometheus.NewRegistry(), log)
	for _, tt := range []struct {
		name         string
		handler      http.Handler
		method, path string
		status       int
	}{
		{"unknown path", public, "GET", "/other", 404},
		{"unknown path, HEAD", public, "HEAD", "/a/other", 404},
		{"unknown path, OPTIONS", public, "OPTIONS", "/b/openid/v1/jwks", 404},
		{"the root is not the issuer", public, "GET", "/", 404},
		{"method of the key set", public, "POST", "/a/openid/v1/jwks", 405},
		{"method of the discovery document", public, "DELETE", "/a/.well-known/openid-configuration", 405},
		{"method of the page", public, "PUT", "/a", 405},
		{"unknown method", public, "BREW", "/a/openid/v1/jwks", 405},
		{"nothing published", empty, "GET", keySet, 503},
		{"nothing published, HEAD", empty, "HEAD", configuration, 503},
		{"nothing published, POST", empty, "POST", configuration, 503},
		{"no such challenge", web.NotFound(log), "GET", "/.well-known/acme-challenge/x", 404},
		{"alive", failing, "GET", "/livez", 200},
		{"not ready", failing, "GET", "/readyz", 503},
		{"not ready, with the reason", failing, "GET", "/readyz?verbose", 503},
		{"a defect", failing, "GET", "/readyz?issuer=panic", 500},
		{"metrics", failing, "GET", "/metrics", 200},
		{"method of an admin path", failing, "POST", "/metrics", 405},
		{"unknown admin path", failing, "GET", "/debug/pprof", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := do(t, tt.handler, tt.method, tt.path)
			cached := resp.Header["Cache-Control"]
			if resp.StatusCode != tt.status || !slices.Equal(cached, []string{"no-store"}) {
				t.Errorf("%s with Cache-Control %q, want %d with no-store", resp.Status, cached, tt.status)
			}
		})
	}
}

// A slow gatherer, as with many issuers, is asked three times at once at most.
func TestMetricsAreServedThreeAtATime(t *testing.T) {
	started, finish := make(chan bool), make(chan bool)
	gatherer := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		started <- true
		<-finish
		return nil, nil
	})
	h := web.Admin(func(string) []web.Check { return nil }, gatherer, slog.New(slog.DiscardHandler))
	answers := make(chan int)
	request := func() {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		answers <- rec.Code
	}
	for range 3 {
		go request()
		<-started
	}
	for range 2 {
		resp := do(t, h, http.MethodGet, "/metrics")
		if resp.StatusCode != 503 || !notStored(resp) {
			t.Errorf("the fourth at once: %s, %v", resp.Status, resp.Header)
		}
	}
	if resp := do(t, h, http.MethodGet, "/livez"); resp.StatusCode != 200 {
		t.Errorf("/livez meanwhile: %s", resp.Status)
	}
	close(finish)
	for range 3 {
		if code := <-answers; code != 200 {
			t.Errorf("one of the first three: %d", code)
		}
	}
	go request()
	<-started
	if code := <-answers; code != 200 {
		t.Errorf("after them: %d", code)
	}
}
