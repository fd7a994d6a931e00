package publish_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/publish"
)

const (
	metadataPath = "/a/.well-known/openid-configuration"
	keySetPath   = "/a/openid/v1/jwks"
)

func parseIssuer(t *testing.T, url string) discovery.Issuer {
	t.Helper()
	issuer, err := discovery.ParseIssuer(url)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

func TestWriteFiles(t *testing.T) {
	issuer := parseIssuer(t, "https://oidc.example.test:8443/a")
	dir := filepath.Join(t.TempDir(), "public")
	metadata := filepath.Join(dir, "oidc.example.test", metadataPath)
	keySet := filepath.Join(dir, "oidc.example.test", keySetPath)
	write := func(keys string, wantWritten, wantUnchanged []string) {
		t.Helper()
		written, unchanged, err := publish.WriteFiles(dir, issuer, map[string][]byte{
			metadataPath: []byte("metadata"), keySetPath: []byte(keys),
		})
		if err != nil || !slices.Equal(written, wantWritten) || !slices.Equal(unchanged, wantUnchanged) {
			t.Fatalf("wrote %v, left %v, %v; want %v and %v", written, unchanged, err, wantWritten, wantUnchanged)
		}
		if data, err := os.ReadFile(keySet); err != nil || string(data) != keys {
			t.Fatalf("the key set is %q, %v; want %q", data, err, keys)
		}
	}
	write("old", []string{metadata, keySet}, nil)

	// A file with the right content keeps its time of modification.
	past := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(metadata, past, past); err != nil {
		t.Fatal(err)
	}
	// An earlier run was killed, and other files are there.
	for _, name := range []string{keySet + ".new", filepath.Join(dir, "other")} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("new", []string{keySet}, []string{metadata})
	if info, err := os.Stat(metadata); err != nil || !info.ModTime().Equal(past) {
		t.Errorf("the unchanged file was written: %v", err)
	}
	if _, err := os.Stat(keySet + ".new"); !os.IsNotExist(err) {
		t.Errorf("the temporary file is still there: %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "other")); string(data) != "half" {
		t.Errorf("another file was touched: %q, %v", data, err)
	}
}

// A reader has the old file open while it is replaced: it never sees a mixture.
func TestWriteFilesReplaces(t *testing.T) {
	issuer, dir := parseIssuer(t, "https://a.test"), t.TempDir()
	if _, _, err := publish.WriteFiles(dir, issuer, map[string][]byte{"/jwks": []byte("old")}); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(filepath.Join(dir, "a.test", "jwks"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, _, err := publish.WriteFiles(dir, issuer, map[string][]byte{"/jwks": []byte("new")}); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 8)
	if n, _ := reader.Read(data); string(data[:n]) != "old" {
		t.Errorf("the open file has %q, want \"old\"", data[:n])
	}
}

// Nothing is written outside of the directory, and what cannot be written leaves
// the other files as they were.
func TestWriteFilesFails(t *testing.T) {
	issuer := parseIssuer(t, "https://a.test")
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "a.test")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := publish.WriteFiles(dir, issuer, map[string][]byte{"/jwks": nil}); err == nil {
		t.Error("a link that leads out of the directory was followed")
	}
	if entries, err := os.ReadDir(outside); len(entries) > 0 || err != nil {
		t.Errorf("outside there is %v, %v", entries, err)
	}

	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a.test", "jwks", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	written, _, err := publish.WriteFiles(dir, issuer, map[string][]byte{"/first": nil, "/jwks": nil})
	if want := []string{filepath.Join(dir, "a.test", "first")}; err == nil || !slices.Equal(written, want) {
		t.Errorf("a directory in the way: wrote %v, %v; want %v and an error", written, err, want)
	}
}
