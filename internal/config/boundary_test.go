package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/config"
	"oidc-provider/internal/hint"
)

// TestBoundary puts one file into a directory of issuer files. $at is the directory
// of the main file.
func TestBoundary(t *testing.T) {
	const (
		outside = "is in no directory that a file of issuersDir may use"
		noStore = "a file of issuersDir may not name a store"
	)
	file := func(source string) string { return "issuer: https://a.test/b\n" + source }
	for _, tt := range []struct{ name, allow, text, want string }{ // want "" if it is served
		{"keys in the directory", "", file("files: {paths: [a.pem, ./x/*.pem]}"), ""},
		{"keys that a volume has as links", "", file("files: {paths: [..data/a.pem]}"), ""},
		{"API server of this process", "", file("apiserver: {context: a}"), ""},
		{"kubeconfig in the directory", "", file("apiserver: {kubeconfig: k}"), ""},
		{"URL", "", file("url: {jwks: 'https://x.test/keys'}"), ""},
		{"root", "roots: [keys]", file("files: {paths: [$at/keys/a.pem, '$at/keys/*/b.pem', $at/keys]}"), ""},
		{"root that is a link", "roots: [link]", file("files: {paths: [$at/keys/a.pem, $at/link/a.pem]}"), ""},
		{"managed in a root", "roots: [keys], managed: true", file("managed: {store: $at/keys/ring, rollbackState: $at/keys/seen}"), ""},
		{"managed in the directory", "managed: true", file("managed: {store: ring, create: true}"), ""},
		{"managed in etcd", "managed: true", file("managed: {store: 'etcd://h/p'}"), ""},
		{"signer", "managed: true, signerSockets: true", file("managed: {store: ring, signerSocket: s.sock}"), ""},
		{"signer, abstract", "managed: true, signerSockets: true", file("managed: {store: ring, signerSocket: '@s'}"), ""},
		{"prefix", "issuerPrefix: 'https://a.test/b'", file("files: {paths: [a.pem]}"), ""},
		{"prefix of a host", "issuerPrefix: 'https://a.test/'", file("files: {paths: [a.pem]}"), ""},

		{"keys elsewhere", "", file("files: {paths: [a.pem, /etc/ssl/*.pem]}"), "files.paths[1]: /etc/ssl/*.pem " + outside},
		{"parent", "", file("files: {paths: [../a.pem]}"), outside},
		{"parent of a link", "", file("files: {paths: [$at/d/deep/../a.pem]}"), outside},
		{"parent of a link, relative", "", file("files: {paths: [deep/../../keys2/a.pem]}"), outside},
		{"parent in a pattern", "", file("files: {paths: ['$at/d/*/../../a.pem']}"), "a pattern with .. is not allowed"},
		{"pattern of directories", "", file("files: {paths: ['/*/a.pem']}"), outside},
		{"name that begins like the root", "roots: [keys]", file("files: {paths: [$at/keys2/a.pem]}"), outside},
		{"link out of the directory", "", file("files: {paths: [out/a.pem]}"), outside},
		{"link to a file outside", "", file("files: {paths: [out.pem]}"), outside},
		{"link to nothing yet", "", file("files: {paths: [nothing]}"), outside},
		{"kubeconfig elsewhere", "", file("apiserver: {kubeconfig: /etc/kubernetes/admin.conf}"), "apiserver.kubeconfig: /etc/kubernetes/admin.conf " + outside},
		{"CA elsewhere", "", file("url: {jwks: 'https://x.test/keys', caFile: /etc/shadow}"), "url.caFile: /etc/shadow " + outside},
		{"store", "", file("managed: {store: ring}"), noStore},
		{"store in etcd", "roots: [/]", file("managed: {store: 'etcd://h/p'}"), noStore},
		{"store in a Secret", "roots: [/]", file("managed: {store: 'secret:a/b'}"), noStore},
		{"store elsewhere", "managed: true", file("managed: {store: /var/lib/oidc-provider}"), "managed.store: /var/lib/oidc-provider " + outside},
		{"signer socket", "managed: true", file("managed: {store: ring, signerSocket: s.sock}"), "may not name a signer socket"},
		{"signer socket, abstract", "managed: true", file("managed: {store: ring, signerSocket: '@s'}"), "may not name a signer socket"},
		{"signer socket elsewhere", "managed: true, signerSockets: true", file("managed: {store: ring, signerSocket: /run/s.sock}"), outside},
		{"password elsewhere", "managed: true", file("managed: {store: 'etcd://h/p', etcd: {user: u, passwordFile: /etc/shadow}}"), "etcd.passwordFile: /etc/shadow " + outside},
		{"identity elsewhere", "managed: true", file("managed: {store: ring, ageIdentities: [x, /root/y]}"), "ageIdentities[1]: /root/y " + outside},
		{"rollback state elsewhere", "managed: true", file("managed: {store: ring, rollbackState: /var/seen}"), outside},
		{"other issuer", "issuerPrefix: 'https://a.test/c'", file("files: {paths: [a.pem]}"), "is not below https://a.test/c"},
		{"issuer that begins like the prefix", "issuerPrefix: 'https://a.test/'", "issuer: https://a.test.evil.test\nfiles: {paths: [a.pem]}", "is not below"},
		{"path that begins like the prefix", "issuerPrefix: 'https://a.test/b'", "issuer: https://a.test/bc\nfiles: {paths: [a.pem]}", "is not below"},
		{"one of two documents", "", file("files: {paths: [a.pem]}") + "\n---\nissuer: https://b.test\nfiles: {paths: [/x]}", outside},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := t.TempDir()
			for _, dir := range []string{"d", "keys", "keys2", "keys2/sub"} {
				if err := os.Mkdir(filepath.Join(at, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(at, "keys2", "a.pem"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for from, to := range map[string]string{"link": "keys", "d/out": "../keys2", "d/deep": "../keys2/sub", "d/out.pem": "../keys2/a.pem", "d/nothing": "../none", "d/..data": "."} {
				if err := os.Symlink(to, filepath.Join(at, from)); err != nil {
					t.Fatal(err)
				}
			}
			main := filepath.Join(at, "config.yaml")
			write(t, main, fmt.Sprintf("issuersDir: d\nissuersDirAllow: {%s}\n", tt.allow))
			write(t, filepath.Join(at, "d", "a.yaml"), strings.ReplaceAll(tt.text, "$at", at))
			_, issuers, err := config.LoadAll(main)
			if tt.want == "" {
				if err != nil || len(issuers) != 1 {
					t.Errorf("%d issuers, %s", len(issuers), hint.Text(err, hint.Field))
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(issuers) != 0 {
				t.Errorf("%d issuers, %v, want %q", len(issuers), err, tt.want)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What the main file allows may change while a process runs.
func TestBoundaryChanges(t *testing.T) {
	at := t.TempDir()
	if err := os.Mkdir(filepath.Join(at, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(at, "d", "a.yaml"), "issuer: https://a.test\nmanaged: {store: ring}\n")
	parse := func(text string) *config.Config {
		c, err := config.Parse(filepath.Join(at, "config.yaml"), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dir := config.NewDir(parse("issuersDir: d"))
	now := time.Now()
	for _, tt := range []struct {
		text string
		want int
	}{
		{"issuersDir: d", 0},
		{"issuersDir: d\nissuersDirAllow: {managed: true}", 1},
		{"issuersDir: d\nissuersDirAllow: {managed: true, issuerPrefix: 'https://b.test'}", 0}, // nor its previous content
		{"issuersDir: d\nissuersDirAllow: {managed: true, issuerPrefix: 'https://a.test'}", 1},
		{"issuersDir: d", 0},
	} {
		dir.Reparent(parse(tt.text))
		now = now.Add(time.Minute)
		dir.Scan(now, true)
		if issuers, problems := dir.Issuers(); len(issuers) != tt.want {
			t.Errorf("%s: %d issuers, %v", tt.text, len(issuers), problems)
		}
	}
}

func TestIssuerPrefixIsAnIssuer(t *testing.T) {
	for _, prefix := range []string{"oidc.example.com", "http://a.test", "https://", "https://a.test/?x", "https://*.a.test/.."} {
		_, err := config.Parse("config.yaml", fmt.Appendf(nil, "issuersDir: d\nissuersDirAllow: {issuerPrefix: %q}", prefix))
		if err == nil || !strings.Contains(err.Error(), "issuersDirAllow.issuerPrefix") {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}
