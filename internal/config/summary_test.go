package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oidc-provider/internal/config"
)

func writeAll(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSummarize(t *testing.T) {
	dir := writeAll(t, map[string]string{
		"config.yaml": `
listen: :443
adminListen: 127.0.0.1:9000
tls: {certFile: tls.crt, keyFile: tls.key}
issuersDir: d
issuersDirAllow: {roots: [/c]}
issuers:
- issuer: https://a.test/x
  managed: {store: "etcd://127.0.0.1:2379/a", signerSocket: /run/a.sock}
- issuer: https://b.test
  apiserver: {kubeconfig: /etc/b.conf, context: admin}
`,
		"d/c.yaml": "issuer: https://c.test\nfiles: {paths: [/c/1.pem, /c/2.pem]}\n",
		"d/d.yaml": "issuer: https://d.test\nurl: {jwks: 'https://e.test/keys'}\n",
	})
	cfg, issuers, err := config.LoadAll(filepath.Join(dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const metadata, keys = "/.well-known/openid-configuration", "/openid/v1/jwks"
	want := config.Summary{
		Listen: ":443", AdminListen: "127.0.0.1:9000", TLS: "files",
		Issuers: []config.IssuerSummary{
			{"https://a.test/x", "managed", "etcd://127.0.0.1:2379/a, signs on /run/a.sock",
				"https://a.test/x" + metadata, "https://a.test/x" + keys},
			{"https://b.test", "apiserver", "/etc/b.conf, context admin", "https://b.test" + metadata, "https://b.test" + keys},
			{"https://c.test", "files", "/c/1.pem, /c/2.pem", "https://c.test" + metadata, "https://c.test" + keys},
			{"https://d.test", "url", "https://e.test/keys", "https://d.test" + metadata, "https://d.test" + keys},
		},
	}
	if diff := cmp.Diff(want, config.Summarize(cfg, issuers)); diff != "" {
		t.Error(diff)
	}
}

// A broken file of the directory does not hide the other issuers.
func TestLoadAll(t *testing.T) {
	dir := writeAll(t, map[string]string{
		"config.yaml": "issuersDir: d\n",
		"d/a.yaml":    "issuer: https://a.test\nfiles: {paths: [x]}\n",
		"d/b.yaml":    "issuer: nonsense\n",
		"wrong.yaml":  "issuers: 1\n",
	})
	cfg, issuers, err := config.LoadAll(filepath.Join(dir, "config.yaml"))
	if cfg == nil || len(issuers) != 1 || err == nil || !strings.Contains(err.Error(), "b.yaml") {
		t.Errorf("got %v with %d issuers, %v; want one issuer, and an error about b.yaml", cfg, len(issuers), err)
	}
	if cfg, _, err := config.LoadAll(filepath.Join(dir, "wrong.yaml")); cfg != nil || err == nil {
		t.Errorf("got %v, %v; want an error", cfg, err)
	}
}
