package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	metricName = regexp.MustCompile(`\boidc_provider_[a-z_]+`)
	metricRow  = regexp.MustCompile("(?m)^\\| `(oidc_provider_[a-z_]+)` \\|")
)

// documentedMetrics returns the names in the table of docs/operate.md.
func documentedMetrics(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docs/operate.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metricRow.FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	return names
}

// comeLate are metrics that may be absent while a server starts.
var comeLate = []string{
	"oidc_provider_next_rotation_timestamp_seconds", "oidc_provider_copies_due_timestamp_seconds",
	"oidc_provider_mirror_fetched_timestamp_seconds", "oidc_provider_http_requests_total",
}

// TestMetricsTable compares the table of docs/operate.md with what a process
// shows that has an issuer in every state with metrics of its own.
func TestMetricsTable(t *testing.T) {
	p := newProcess(t)
	p.write("files.pem", testKey(t, "rsa-public.pem"))
	if err := makeCertificate(filepath.Join(p.dir, "tls.crt"), filepath.Join(p.dir, "tls.key")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"planned", "waiting"} {
		p.must("keys", "init", "--store", name, "--issuer", "https://oidc.test/"+name, "--algorithm", "ES256")
	}
	p.must("keys", "copies", "add", "bucket", "--store", "waiting")
	p.write("config.yaml", `
tls: {certFile: tls.crt, keyFile: tls.key}
issuers:
  - issuer: https://oidc.test/planned
    managed: {store: planned, witnesses: [none]}
  - issuer: https://oidc.test/waiting
    managed: {store: waiting, witnesses: [none]}
  - issuer: https://oidc.test/files
    files: {paths: [files.pem]}
`)
	p.run("serve", "--config", "config.yaml")
	documented := documentedMetrics(t)
	var shown []string
	p.eventually("the issuers have planned, waited and fetched", func() bool {
		shown = nil
		for line := range strings.Lines(fetchBody("http://" + p.adminAddr + "/metrics")) {
			if help, ok := strings.CutPrefix(line, "# HELP "); ok && strings.HasPrefix(help, "oidc_provider_") {
				shown = append(shown, metricName.FindString(help))
			}
		}
		return !slices.ContainsFunc(comeLate, func(name string) bool { return !slices.Contains(shown, name) })
	})
	p.stop()
	if !slices.IsSorted(documented) {
		t.Error("the table is not sorted")
	}
	for _, name := range shown {
		if !slices.Contains(documented, name) {
			t.Errorf("%s is not in the table", name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(shown, name) {
			t.Errorf("%s is in the table and not in /metrics", name)
		}
	}
}
