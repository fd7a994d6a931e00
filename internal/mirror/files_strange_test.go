package mirror_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testCase(t testing.TB, name string) string {
	t.Helper()
	return read(t, filepath.Join("../../testdata/cases", name))
}

// A file with a key that is not supported, or without any, hides no other file.
func TestFilesPassOver(t *testing.T) {
	sound := kidOf(t, "ec-prime256v1-public.pem")
	for name, tt := range map[string]struct {
		content string
		keys    int
		want    string
	}{
		"8192 bits":         {testCase(t, "rsa-8192.pub"), 1, "8192 bits"},
		"exponent 1":        {testCase(t, "rsa-exponent-1.pub"), 1, "exponent is 1"},
		"sound and small":   {testCase(t, "good-and-1024.pub"), 2, "PEM block 2 of 2 (PUBLIC KEY): RSA key of 1024 bits"},
		"the same in JSON":  {testCase(t, "good-and-1024.json"), 2, "key 1 of the set"},
		"RSASSA-PSS":        {testCase(t, "rsassa-pss.crt"), 1, "RSASSA-PSS"},
		"UTF-16":            {testCase(t, "utf16.pub"), 1, "UTF-16"},
		"another's x5c":     {testCase(t, "x5c-of-another.json"), 2, ""},
		"another label":     {testCase(t, "rsa-label-around-pkix.pub"), 2, ""},
		"a leading zero":    {testCase(t, "leading-zero.json"), 2, ""},
		"Ed25519":           {testKey(t, "ed25519.pem"), 1, "want RSA or ECDSA"},
		"P-224":             {testKey(t, "ec-secp224r1.pem"), 1, "P-224"},
		"encrypted":         {testKey(t, "rsa-encrypted.pem"), 1, "encrypted"},
		"nothing":           {"", 1, "it is empty"},
		"prose":             {"Keys of the cluster.\n", 1, "want PEM"},
		"HTML":              {"<html>", 1, "HTML"},
		"an OpenSSH key":    {"ssh-rsa AAAA me@host", 1, "ssh-keygen"},
		"no supported keys": {`{"keys":[{"kty":"OKP"}]}`, 1, "no kid"},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a"), tt.content)
		write(t, filepath.Join(dir, "b.pub"), testKey(t, "ec-prime256v1-public.pem"))
		w := new(world)
		m := w.mirror(newFiles(t, filepath.Join(dir, "*")), "")
		refresh(t, m, "")
		skipped := strings.Join(m.Status().Skipped, "\n")
		if len(m.Keys()) != tt.keys || !strings.Contains(kids(m.Keys()), sound) ||
			(skipped == "") != (tt.want == "") || !strings.Contains(skipped, tt.want) {
			t.Errorf("%s: got %q, skipped %s", name, kids(m.Keys()), skipped)
		}
		if skipped != "" && !strings.Contains(skipped, filepath.Join(dir, "a")+": ") {
			t.Errorf("%s: skipped %s, want the path", name, skipped)
		}
	}
}

// A file that is damaged, or cannot be read, changes nothing: its keys stay, and
// those of other files change.
func TestDamagedFile(t *testing.T) {
	rsa, p256, p384 := kidOf(t, "rsa-public.pem"), kidOf(t, "ec-prime256v1-public.pem"), kidOf(t, "ec-secp384r1-public.pem")
	for name, tt := range map[string]struct{ content, want string }{
		"a byte order mark": {testCase(t, "bom-two-keys.pub"), "PEM block 1 of 2 (PUBLIC KEY): a byte order mark"},
		"cut off":           {testKey(t, "rsa-public.pem")[:200], "PEM block 1 of 1 (PUBLIC KEY): it has no END line"},
		"indented":          {"  " + testKey(t, "rsa-public.pem"), "it is indented"},
		"wrong base64":      {strings.Replace(testKey(t, "rsa-public.pem"), "MII", "M II?", 1), "base64 is damaged"},
		"half a key set":    {`{"keys":[`, "unexpected end"},
		"a private key set": {`{"keys":[{"kty":"RSA","d":"AQ"}]}`, `"d"`},
		"too large":         {strings.Repeat("x", 1<<20+1), "too large"},
		"nothing any more":  {"", "it is empty"},
		"small now":         {testKey(t, "rsa-1024.pem"), "1024 bits"},
		"HTML now":          {"<html>", "HTML"},
	} {
		dir := t.TempDir()
		a, b := filepath.Join(dir, "a.pub"), filepath.Join(dir, "b.pub")
		write(t, a, testKey(t, "rsa-public.pem"))
		write(t, b, testKey(t, "ec-prime256v1-public.pem"))
		w := new(world)
		m := w.mirror(newFiles(t, filepath.Join(dir, "*.pub")), "")
		refresh(t, m, "")
		write(t, a, tt.content)
		refresh(t, m, tt.want)
		if got := kids(m.Keys()); got != rsa+" "+p256 || !strings.Contains(failure(m), a) {
			t.Errorf("%s: got %q, %s", name, got, failure(m))
		}
		write(t, b, testKey(t, "ec-secp384r1-public.pem"))
		refresh(t, m, tt.want)
		if got := kids(m.Keys()); got != rsa+" "+p384 {
			t.Errorf("%s: got %q after a change of the other file", name, got)
		}
		write(t, a, testKey(t, "rsa-public.pem"))
		refresh(t, m, "")
		if err := os.Remove(a); err != nil {
			t.Fatal(err)
		}
		refresh(t, m, "")
		if got := kids(m.Keys()); got != p384 {
			t.Errorf("%s: got %q after the file was removed", name, got)
		}
	}
}

// A file that is damaged from the start does not hide the others, and removes no key
// that may be its.
func TestDamagedFileAtStart(t *testing.T) {
	rsa, p256, p384 := kidOf(t, "rsa-public.pem"), kidOf(t, "ec-prime256v1-public.pem"), kidOf(t, "ec-secp384r1-public.pem")
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.pub"), filepath.Join(dir, "b.pub")
	write(t, a, testKey(t, "rsa-public.pem")[:100])
	write(t, b, testKey(t, "ec-prime256v1-public.pem"))
	w := new(world)
	m := w.mirror(newFiles(t, a, b), "")
	for _, tt := range []struct{ key, want string }{
		{"ec-prime256v1-public.pem", p256}, {"ec-secp384r1-public.pem", p384 + " " + p256},
	} {
		write(t, b, testKey(t, tt.key))
		refresh(t, m, "PEM block 1 of 1")
		wantKeys(t, m, w, tt.want)
	}
	write(t, a, testKey(t, "rsa-public.pem"))
	refresh(t, m, "")
	wantKeys(t, m, w, rsa+" "+p384)
}

// The kubelet and editors have files and directories whose names begin with a dot.
func TestFilesOfGlobWithDots(t *testing.T) {
	dir := t.TempDir()
	sound := kidOf(t, "ec-prime256v1-public.pem")
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	for _, name := range []string{"..2026_01_01.1", "sub", "sub/.git", ".hidden"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".#a.pem", ".a.pem.swp", ".a.pem", "sub/.a.pem", "sub/.git/a.pem", ".hidden/a.pem"} {
		write(t, at(name), testKey(t, "rsa-public.pem"))
	}
	write(t, at("..2026_01_01.1/a.pem"), testKey(t, "ec-prime256v1-public.pem"))
	write(t, at("sub/b.pem"), testKey(t, "ec-prime256v1-public.pem"))
	for name, target := range map[string]string{"..data": "..2026_01_01.1", "a.pem": "..data/a.pem"} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Skip(err)
		}
	}
	for pattern, tt := range map[string]struct {
		kids    string
		skipped string
		err     string
	}{
		"*":           {kids: sound, skipped: at("sub") + " is not a regular file"},
		"*.pem":       {kids: sound},
		"*/*.pem":     {kids: sound},
		"*/*":         {kids: sound},
		"sub/*":       {kids: sound},
		"[.a]*.pem":   {kids: sound},
		"?.pem":       {kids: sound},
		".*.pem":      {kids: kidOf(t, "rsa-public.pem")},
		".hidden/*":   {kids: kidOf(t, "rsa-public.pem")},
		"sub/.*/a.*":  {kids: kidOf(t, "rsa-public.pem")},
		"*.swp":       {err: "no file matches"},
		"sub/*/*.pem": {err: "no file matches"},
		"..data/*":    {kids: sound},
	} {
		keys, skipped, err := newFiles(t, at(pattern)).Fetch(t.Context())
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want %q", pattern, err, tt.err)
			}
		case err != nil || kids(keys) != tt.kids || (len(skipped) > 0) != (tt.skipped != ""):
			t.Errorf("%s: got %q, %v, %v", pattern, kids(keys), skipped, err)
		case tt.skipped != "" && skipped[0].Error() != tt.skipped:
			t.Errorf("%s: skipped %v", pattern, skipped)
		}
	}
	// The whole volume changes in one step.
	files := newFiles(t, at("*"))
	fetch(t, files, []string{sound}, "")
	if err := os.Mkdir(at("..2026_01_01.2"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, at("..2026_01_01.2/a.pem"), testKey(t, "ec-secp384r1-public.pem"))
	if err := os.Symlink("..2026_01_01.2", at("..data_tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(at("..data_tmp"), at("..data")); err != nil {
		t.Fatal(err)
	}
	fetch(t, files, []string{kidOf(t, "ec-secp384r1-public.pem")}, "")
}

// FuzzFiles makes sure that whatever a file contains, the sound key of another file is
// published, and that reasons are short.
func FuzzFiles(f *testing.F) {
	for _, name := range []string{"bom-two-keys.pub", "utf16.pub", "good-and-1024.pub", "good-and-1024.json"} {
		f.Add([]byte(testCase(f, name)))
	}
	f.Add([]byte(testKey(f, "rsa-pkcs1.pem")))
	dir := f.TempDir()
	write(f, filepath.Join(dir, "sound"), testKey(f, "ec-secp384r1-public.pem"))
	sound := kidOf(f, "ec-secp384r1-public.pem")
	f.Fuzz(func(t *testing.T, data []byte) {
		write(t, filepath.Join(dir, "any"), string(data))
		keys, skipped, err := newFiles(t, filepath.Join(dir, "*")).Fetch(t.Context())
		if !strings.Contains(kids(keys), sound) {
			t.Fatalf("got %q, %v, %v", kids(keys), skipped, err)
		}
		for _, why := range append(skipped, err) {
			if why != nil && len(why.Error()) > 1000 {
				t.Fatalf("a long reason: %v", why)
			}
		}
	})
}
