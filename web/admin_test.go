package web_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

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
