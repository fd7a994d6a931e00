package mirror_test

import (
	"context"
	"encoding/pem"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/mirror"
	"oidc-provider/jwks"
)

func testKey(t testing.TB, name string) string {
	t.Helper()
	return read(t, filepath.Join("../../testdata/keys", name))
}

func kidOf(t testing.TB, name string) string {
	t.Helper()
	private, public, err := jwks.ParsePEM([]byte(testKey(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range private {
		public = append(public, k.PublicKey)
	}
	return public[0].KeyID()
}

func newFiles(t testing.TB, patterns ...string) *mirror.Files {
	t.Helper()
	files, err := mirror.NewFiles(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// fetch wants an error with the text in it, or the kids.
func fetch(t testing.TB, s mirror.Source, wantKids []string, wantErr string) []error {
	t.Helper()
	keys, skipped, err := s.Fetch(t.Context())
	if wantErr != "" {
		if err == nil || !strings.Contains(text(err), wantErr) {
			t.Errorf("got %q, %v, want an error with %q", kids(keys), err, wantErr)
		}
		return skipped
	}
	if want := strings.Join(wantKids, " "); err != nil || kids(keys) != want {
		t.Errorf("got %q, %v, want %q", kids(keys), err, want)
	}
	return skipped
}

// age makes a file one that changed some time ago.
func age(t testing.TB, path string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	rsa, p256, p384 := kidOf(t, "rsa-public.pem"), kidOf(t, "ec-prime256v1-public.pem"), kidOf(t, "ec-secp384r1-public.pem")
	for name, data := range map[string]string{
		"sa.pub":     testKey(t, "rsa-public.pem"),
		"two.pem":    "A comment.\n" + testKey(t, "ec-secp384r1-public.pem") + testKey(t, "ec-prime256v1-public.pem"),
		"cert.crt":   testKey(t, "rsa-certificate.pem"),
		"sa.key":     testKey(t, "ec-prime256v1.pem"),
		"set.json":   "\n " + string(marshal(t, newKey(t, "named"))),
		"odd.json":   `{"keys":[{"kty":"new","kid":"x"}]}`,
		"named.json": string(marshal(t, newKey(t, "named"))),
		"sa.json":    `{"keys":[{"kty":"new","d":"c2VjcmV0"}]}`,
		"none.pem":   "nothing",
		"[x].pem":    testKey(t, "rsa-public.pem"),
		"large":      strings.Repeat("x", 1<<20+1),
	} {
		write(t, filepath.Join(dir, name), data)
	}
	for _, tt := range []struct {
		patterns []string
		kids     []string
		skipped  string
		err      string
	}{
		{patterns: []string{"sa.pub"}, kids: []string{rsa}},
		{patterns: []string{"two.pem", "sa.pub"}, kids: []string{p384, p256, rsa}},
		{patterns: []string{"cert.crt"}, kids: []string{rsa}},
		{patterns: []string{"sa.key"}, kids: []string{p256}, skipped: "contains a private key, "},
		{patterns: []string{"set.json", "two.pem"}, kids: []string{"named", p384, p256}},
		{patterns: []string{"*.p[eu]*", "sa.pub"}, kids: []string{rsa, p384, p256}, skipped: "none.pem: no key found"},
		{patterns: []string{"t*.pem", "sa.*[bj]", "cert.crt"}, kids: []string{p384, p256, rsa}},
		{patterns: []string{`\[x\].pem`}, kids: []string{rsa}},
		{patterns: []string{"odd.json", "sa.pub"}, kids: []string{rsa}, skipped: `odd.json: key 0 of the set (kid "x")`},
		{patterns: []string{"odd.json"}, skipped: `(kid "x")`},
		{patterns: []string{"set.json", "named.json"}, err: `kid "named" is another key than in a previous file`},
		{patterns: []string{"sa.json"}, err: `the member "d"`},
		{patterns: []string{"none.pem"}, skipped: "no key found"},
		{patterns: []string{"sa.pub", "missing"}, err: "missing"},
		{patterns: []string{"sa.pub", "mi*"}, err: "no file matches"},
		{patterns: []string{"large"}, err: "too large: more than 1 MiB"},
		{patterns: []string{""}, err: "not a regular file"},
	} {
		var patterns []string
		for _, p := range tt.patterns {
			patterns = append(patterns, filepath.Join(dir, p))
		}
		files := newFiles(t, patterns...)
		for range 2 { // the second time mostly without reading
			var got string
			for _, err := range fetch(t, files, tt.kids, tt.err) {
				got += err.Error()
			}
			if (got == "") != (tt.skipped == "") || !strings.Contains(got, tt.skipped) || strings.Contains(got, "c2VjcmV0") {
				t.Errorf("%q: skipped %s, want %q in it", tt.patterns, got, tt.skipped)
			}
		}
	}
	for _, bad := range [][]string{nil, {""}, {"sa.pub", ""}, {"[x"}, {"a/[]b"}, {`x\`}} {
		if _, err := mirror.NewFiles(bad); err == nil || !strings.Contains(text(err), "(hint: ") {
			t.Errorf("NewFiles(%q): %v", bad, err)
		}
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa.pub")
	rsa, p256 := kidOf(t, "rsa-public.pem"), kidOf(t, "ec-prime256v1-public.pem")
	write(t, path, testKey(t, "rsa-public.pem"))
	age(t, path)
	files := newFiles(t, path)
	fetch(t, files, []string{rsa}, "")
	// In place, seen by the time alone, and by the size alone.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Repeat("x", int(info.Size())))
	fetch(t, files, nil, "no key found")
	write(t, path, testKey(t, "rsa-public.pem"))
	age(t, path)
	fetch(t, files, []string{rsa}, "")
	if info, err = os.Stat(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, "x")
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	fetch(t, files, nil, "no key found")
	// Within the same instant of a coarse clock, and of the same size.
	write(t, path, testKey(t, "ec-prime256v1-public.pem"))
	fetch(t, files, []string{p256}, "")
	if info, err = os.Stat(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Repeat("x", int(info.Size())))
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	fetch(t, files, nil, "no key found")
	// By another of the same size and time.
	write(t, path, testKey(t, "ec-prime256v1-public.pem"))
	age(t, path)
	fetch(t, files, []string{p256}, "")
	if info, err = os.Stat(path); err != nil {
		t.Fatal(err)
	}
	key := newKeyPEM(t, int(info.Size()))
	write(t, path+".new", key)
	if err := os.Chtimes(path+".new", info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	_, public, err := jwks.ParsePEM([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	fetch(t, files, []string{public[0].KeyID()}, "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fetch(t, files, nil, "no such file")
	write(t, path, testKey(t, "rsa-public.pem"))
	fetch(t, files, []string{rsa}, "")
}

// newKeyPEM is a key whose file has that size.
func newKeyPEM(t *testing.T, size int) string {
	t.Helper()
	key := newKey(t, "x")
	block := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key.PKIX()}))
	if len(block) > size {
		t.Fatalf("%d bytes, want %d", len(block), size)
	}
	return block + strings.Repeat("\n", size-len(block))
}

// Files that look the same are not read.
func TestFilesAreNotReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa.pub")
	write(t, path, testKey(t, "rsa-public.pem"))
	age(t, path)
	files := newFiles(t, path, filepath.Join(filepath.Dir(path), "*.pub"))
	first, _, err := files.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := files.Fetch(t.Context())
	if err != nil || &first[0] != &second[0] {
		t.Errorf("read again: %v", err)
	}
}

func TestFilesOfGlob(t *testing.T) {
	dir := t.TempDir()
	rsa, p256 := kidOf(t, "rsa-public.pem"), kidOf(t, "ec-prime256v1-public.pem")
	put := func(name, key string) {
		write(t, filepath.Join(dir, name), testKey(t, key))
		age(t, filepath.Join(dir, name))
	}
	put("2.pub", "rsa-public.pem")
	files := newFiles(t, filepath.Join(dir, "*.pub"))
	fetch(t, files, []string{rsa}, "")
	put("1.pub", "ec-prime256v1-public.pem")
	fetch(t, files, []string{p256, rsa}, "")
	if err := os.Remove(filepath.Join(dir, "2.pub")); err != nil {
		t.Fatal(err)
	}
	fetch(t, files, []string{p256}, "")
	if err := os.Remove(filepath.Join(dir, "1.pub")); err != nil {
		t.Fatal(err)
	}
	fetch(t, files, nil, "no file matches")
}

// A Secret or ConfigMap is mounted like this: the directory of all files
// changes in one step.
func TestFilesOfKubelet(t *testing.T) {
	dir := t.TempDir()
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	for version, key := range map[string]string{"..1": "rsa-public.pem", "..2": "ec-prime256v1-public.pem"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "sa.pub"), testKey(t, key))
		age(t, filepath.Join(dir, version, "sa.pub"))
	}
	link("..1", "..data")
	link("..data/sa.pub", "sa.pub")
	files, glob := newFiles(t, filepath.Join(dir, "sa.pub")), newFiles(t, filepath.Join(dir, "*.pub"))
	fetch(t, files, []string{kidOf(t, "rsa-public.pem")}, "")
	fetch(t, glob, []string{kidOf(t, "rsa-public.pem")}, "")
	link("..2", "..tmp")
	if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	fetch(t, files, []string{kidOf(t, "ec-prime256v1-public.pem")}, "")
	fetch(t, glob, []string{kidOf(t, "ec-prime256v1-public.pem")}, "")
}

// While a file is being written, the keys stay that were there.
func TestHalfWrittenFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sa.pub")
	set := string(marshal(t, newKey(t, "a"), newKey(t, "b")))
	blocks := testKey(t, "rsa-public.pem") + testKey(t, "ec-prime256v1-public.pem")
	for _, content := range []string{set, blocks} {
		write(t, path, content)
		w := new(world)
		m := w.mirror(newFiles(t, path), "")
		refresh(t, m, "")
		want := kids(m.Keys())
		for n := range len(content) {
			begun := strings.TrimSpace(content[:n])
			if strings.HasSuffix(begun, "-----END PUBLIC KEY-----") || begun == content {
				continue // it may well end here
			}
			write(t, path, content[:n])
			_ = m.Refresh(t.Context())
			if got := kids(m.Keys()); got != want {
				t.Fatalf("%d of %d bytes: %q, want %q", n, len(content), got, want)
			}
		}
	}
}

// A fetch waits for others that read, but no longer than it may.
func TestFilesWait(t *testing.T) {
	release := mirror.FillDisk()
	files := newFiles(t, filepath.Join("../../testdata/keys", "rsa-public.pem"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := files.Fetch(ctx); err == nil || !strings.Contains(err.Error(), "waiting for other mirrors' files") {
		t.Errorf("got %v", err)
	}
	time.AfterFunc(10*time.Millisecond, release)
	fetch(t, files, []string{kidOf(t, "rsa-public.pem")}, "")
	if mirror.DiskSlots() != 2*runtime.GOMAXPROCS(0) {
		t.Errorf("%d at once", mirror.DiskSlots())
	}
}
