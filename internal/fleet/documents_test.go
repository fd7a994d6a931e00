package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/config"
	"oidc-provider/internal/fleet"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

func publicKey(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "keys", "rsa-public.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newRing(t *testing.T, dir, issuer string) (cfg store.Config, ring *rotation.Ring) {
	t.Helper()
	cfg.Store = dir
	ring, err := rotation.New(issuer, rotation.Policy{Algorithm: jose.ES256}, time.Now(), rotation.GenerateKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Create(t.Context(), ring); err != nil {
		t.Fatal(err)
	}
	return cfg, ring
}

func TestDocuments(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.pem")
	if err := os.WriteFile(keys, publicKey(t), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, ring := newRing(t, filepath.Join(dir, "ring"), "https://ring.test")
	of := func(issuer string, i config.Issuer) *config.Issuer { i.Issuer = issuer; return &i }
	files := config.Issuer{Files: &config.Files{Paths: []string{keys}}}
	managed := config.Issuer{Managed: &config.Managed{Config: cfg}}
	for _, tt := range []struct {
		name   string
		issuer *config.Issuer
		want   string // in the key set
		err    string
	}{
		{"files", of("https://files.test", files), `"kid":"JvL9VBeh`, ""},
		{"a ring", of("https://ring.test", managed), `"kid":"` + ring.Keys[0].KeyID, ""},
		{"the ring of another issuer", of("https://other.test", managed), "", `belongs to issuer "https://ring.test"`},
		{"missing files", of("https://files.test", config.Issuer{Files: &config.Files{Paths: []string{dir + "/none"}}}), "",
			"no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			docs, stale, err := fleet.Documents(t.Context(), tt.issuer, dir)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || stale != nil {
				t.Fatal(errors.Join(err, stale))
			}
			set := docs.Files()["/openid/v1/jwks"]
			if !bytes.Contains(set, []byte(tt.want)) || bytes.Contains(set, []byte(`"d"`)) {
				t.Errorf("the key set is %s, want %s in it, and no private key", set, tt.want)
			}
		})
	}
}

// Nothing on this machine is as the configuration says: each problem is a warning
// that names the issuer, and hints are kept.
func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "none")
	cfg := &config.Config{TLS: &config.TLS{CertFile: none, KeyFile: none}}
	issuers := []config.Issuer{
		{Issuer: "https://a.test", Managed: &config.Managed{Config: store.Config{Store: "etcd://127.0.0.1:1/a",
			Etcd: store.Etcd{CAFile: none}}}},
		{Issuer: "https://b.test", APIServer: &config.APIServer{Kubeconfig: none}},
		{Issuer: "https://c.test:8443", Files: &config.Files{Paths: []string{none}}},
	}
	var texts []string
	for _, w := range fleet.Warnings(context.Background(), cfg, issuers) {
		texts = append(texts, hint.Text(w, hint.Field))
	}
	all := strings.Join(texts, "\n")
	for _, want := range []string{
		"TLS certificate: stat " + none + ": no such file or directory (hint: ",
		`issuer "https://a.test": `, `issuer "https://b.test": `,
		`issuer "https://c.test:8443": has a port`, `issuer "https://c.test:8443": stat `,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning has %q:\n%s", want, all)
		}
	}

	keys := filepath.Join(dir, "keys.pem")
	if err := os.WriteFile(keys, publicKey(t), 0o600); err != nil {
		t.Fatal(err)
	}
	good := []config.Issuer{{Issuer: "https://c.test", Files: &config.Files{Paths: []string{keys}}}}
	if warnings := fleet.Warnings(t.Context(), &config.Config{}, good); len(warnings) > 0 {
		t.Errorf("got %v, want no warning", warnings)
	}
}
