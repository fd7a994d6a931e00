package mirror_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"oidc-provider/internal/mirror"
	"oidc-provider/jwks"
)

func statePath(t testing.TB) string {
	return filepath.Join(t.TempDir(), "mirrors", "one", "state.json")
}

// keep leaves a state behind, as a process that had keys.
func keep(t testing.TB, path string, keys ...jwks.PublicKey) {
	t.Helper()
	source, w := new(fake), new(world)
	source.has(keys...)
	refresh(t, w.mirror(source, path), "")
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t testing.TB, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRestartWithoutSource(t *testing.T) {
	path := statePath(t)
	a, b := newKey(t, "a"), newKey(t, "b")
	keep(t, path, a, b)
	for _, p := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)

	source, w := new(fake), new(world)
	source.fails("dead")
	m := w.mirror(source, path)
	wantKeys(t, m, w, "a b")
	s := m.Status()
	if !s.FromState || s.Fetched.IsZero() || time.Since(s.Fetched) < 10*time.Millisecond || s.Changed.After(s.Fetched) || s.Failure != nil {
		t.Errorf("status %+v", s)
	}
	refresh(t, m, "dead")
	wantKeys(t, m, w, "a b")
	if after := m.Status(); !after.FromState || !after.Fetched.Equal(s.Fetched) {
		t.Errorf("status %+v", after)
	}
	source.has(a, b)
	refresh(t, m, "")
	if after := m.Status(); after.FromState || !after.Changed.Equal(s.Changed) || !after.Fetched.After(s.Fetched) || len(w.published) != 1 {
		t.Errorf("status %+v, published %q", after, w.published)
	}
}

// The age survives a restart too, and costs no write of the whole.
func TestFetchedIsKept(t *testing.T) {
	path := statePath(t)
	synctest.Test(t, func(t *testing.T) {
		source, w := new(fake), new(world)
		source.has(newKey(t, "a"))
		m := w.mirror(source, path)
		refresh(t, m, "")
		first, content := modTime(t, path), read(t, path)
		time.Sleep(50 * time.Second)
		refresh(t, m, "")
		if modTime(t, path).Equal(time.Now()) {
			t.Error("noted within the minute")
		}
		time.Sleep(10 * time.Second)
		refresh(t, m, "")
		if got := modTime(t, path); !got.Equal(time.Now()) || read(t, path) != content || got.Equal(first) {
			t.Errorf("noted %v, want %v", got, time.Now())
		}
		heard := time.Now()
		time.Sleep(time.Hour)
		source.fails("dead")
		refresh(t, m, "dead")
		if m = w.mirror(source, path); !m.Status().Fetched.Equal(heard) {
			t.Errorf("fetched %v, want %v", m.Status().Fetched, heard)
		}
		future := time.Now().Add(time.Hour) // a clock that was wrong
		if err := os.Chtimes(path, future, future); err != nil {
			t.Fatal(err)
		}
		if m = w.mirror(source, path); m.Status().Fetched.After(heard) {
			t.Errorf("fetched %v", m.Status().Fetched)
		}
		// Whoever removes it has it written again.
		source.has(newKey(t, "a"))
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		m = w.mirror(source, path)
		refresh(t, m, "")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		refresh(t, m, "")
		read(t, path)
	})
}

func modTime(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

func TestKeyOfOldKidAcrossRestart(t *testing.T) {
	path := statePath(t)
	a, b := newKey(t, "a"), newKey(t, "b")
	keep(t, path, a, b)
	keep(t, path, b) // a is gone, and not forgotten
	for _, kid := range []string{"a", "b"} {
		source, w := new(fake), new(world)
		source.has(newKey(t, "c"), newKey(t, kid))
		m := w.mirror(source, path)
		before := read(t, path)
		refresh(t, m, fmt.Sprintf("kid %q named another key before", kid))
		refresh(t, m, "remove "+path+" and restart")
		wantKeys(t, m, w, "b")
		if read(t, path) != before {
			t.Error("the state has changed")
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	keep(t, path, newKey(t, "b"))
}

// Whatever else stands in the file stays there, and the mirror works without.
func TestForeignState(t *testing.T) {
	good := statePath(t)
	a := newKey(t, "a")
	keep(t, good, a)
	content := read(t, good)
	change := func(from, to string) string {
		if !strings.Contains(content, from) {
			t.Fatalf("no %s in %s", from, content)
		}
		return strings.Replace(content, from, to, 1)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal([]byte(content), &doc); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ content, want string }{
		"empty":          {"", "unexpected end"},
		"half":           {content[:len(content)/2], "unexpected end"},
		"garbage":        {"\x00\x01", "invalid character"},
		"other issuer":   {change(issuer, issuer+"/"), fmt.Sprintf("it belongs to issuer %q, not %q", issuer+"/", issuer)},
		"other kind":     {change("oidc-provider-mirror/v1", "oidc-provider-mirror/v2"), `it is of kind "oidc-provider-mirror/v2"`},
		"ring":           {`{"version":1,"issuer":"` + issuer + `"}`, "of kind"},
		"unknown member": {change(`"known"`, `"more":1,"known"`), "unknown field"},
		"no keys":        {change(string(doc["jwks"]), `{"keys":[]}`), "not complete"},
		"null":           {change(string(doc["jwks"]), `null`), "not a JSON object"},
		"no time":        {change(`"fetched"`, `"changed":"2026-01-01T00:00:00Z","fetche"`), "unknown field"},
		"private":        {change(`"kty"`, `"d":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE","kty"`), "which is private"},
		"contradiction":  {change(string(doc["jwks"]), string(marshal(t, newKey(t, "a")))), "contradicts itself"},
		"far too large":  {change(`{`, `{`+strings.Repeat(" ", 16<<20)), "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			write(t, path, tt.content)
			source, w := new(fake), new(world)
			source.has(a)
			m := w.mirror(source, path)
			if s := m.Status(); m.Keys() != nil || !strings.Contains(text(s.Failure), tt.want) || !strings.Contains(text(s.Failure), "(hint: ") || s.FailingSince.IsZero() {
				t.Errorf("status %+v", s)
			}
			if got := w.logged(); strings.Count(got, "level=ERROR") != 1 {
				t.Errorf("logged %s", got)
			}
			refresh(t, m, tt.want)
			wantKeys(t, m, w, "a")
			source.has(newKey(t, "b"))
			refresh(t, m, tt.want)
			wantKeys(t, m, w, "b")
			if read(t, path) != tt.content {
				t.Error("it was overwritten")
			}
			source.fails("dead")
			refresh(t, m, "dead")
			if !strings.Contains(failure(m), tt.want) {
				t.Errorf("status %+v", m.Status())
			}
			// Moved away, it is in nobody's way.
			source.has(newKey(t, "b2"))
			if err := os.Rename(path, path+".old"); err != nil {
				t.Fatal(err)
			}
			refresh(t, m, "")
			if !strings.Contains(read(t, path), `"b2"`) {
				t.Error("no state is kept")
			}
		})
	}
}

func TestStateIsNoFile(t *testing.T) {
	source, w := new(fake), new(world)
	source.has(newKey(t, "a"))
	m := w.mirror(source, t.TempDir())
	refresh(t, m, "is not a regular file")
	wantKeys(t, m, w, "a")
}

// Two mirrors that were given the same file do not take it from each other.
func TestStateOfTwo(t *testing.T) {
	path := statePath(t)
	source, w := new(fake), new(world)
	source.has(newKey(t, "a"))
	m := w.mirror(source, path)
	keep(t, path, newKey(t, "b"))
	other := strings.Replace(read(t, path), issuer, "https://other.example.test", 1)
	write(t, path, other)
	refresh(t, m, `it belongs to issuer "https://other.example.test"`)
	wantKeys(t, m, w, "a")
	if read(t, path) != other {
		t.Error("it was overwritten")
	}
}

func TestStateCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "x")
	for name, path := range map[string]string{
		"no directory": filepath.Join(file, "state"),
		"no room":      filepath.Join(t.TempDir(), strings.Repeat("x", 255)), // for the name of a file beside it
	} {
		t.Run(name, func(t *testing.T) {
			source, w := new(fake), new(world)
			source.has(newKey(t, "a"))
			m := w.mirror(source, path)
			refresh(t, m, "the state")
			wantKeys(t, m, w, "a")
			if s := m.Status(); s.Fetched.IsZero() || s.Failures == 0 {
				t.Errorf("status %+v", s)
			}
			source.has(newKey(t, "b"))
			refresh(t, m, "the state")
			wantKeys(t, m, w, "b")
		})
	}
}

// A write that failed is made up for.
func TestStateIsWrittenLater(t *testing.T) {
	path := statePath(t)
	source, w := new(fake), new(world)
	source.has(newKey(t, "a"))
	m := w.mirror(source, path)
	write(t, filepath.Dir(filepath.Dir(path)), "in the way")
	refresh(t, m, "the state")
	if err := os.Remove(filepath.Dir(filepath.Dir(path))); err != nil {
		t.Fatal(err)
	}
	source.fails("dead")
	refresh(t, m, "dead")
	if !strings.Contains(read(t, path), `"a"`) {
		t.Error("no state is kept")
	}
}

// Nothing is left beside the file, not even by a write that failed.
func TestStateLeavesNothing(t *testing.T) {
	path := statePath(t)
	keep(t, path, newKey(t, "a"))
	keep(t, path, newKey(t, "b"))
	if err := mirror.ReplaceFile(filepath.Dir(path), nil); err == nil {
		t.Error("a directory was replaced")
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%v, %v", entries, err)
		}
	}
}

func TestStateCannotBePublished(t *testing.T) {
	path := statePath(t)
	keep(t, path, newKey(t, "a"))
	source, w := new(fake), new(world)
	source.fails("dead")
	w.fail = errors.New("no space")
	m := w.mirror(source, path)
	if m.Keys() != nil || failure(m) != "publishing the keys: no space" {
		t.Errorf("shows %q, status %+v", kids(m.Keys()), m.Status())
	}
	w.fail = nil
	refresh(t, m, "dead")
	wantKeys(t, m, w, "a")
}

// A state is a file of public keys alone.
func TestStateHasNothingPrivate(t *testing.T) {
	key, err := os.ReadFile("../../testdata/keys/ec-prime256v1.pem")
	if err != nil {
		t.Fatal(err)
	}
	private, _, err := jwks.ParsePEM(key)
	if err != nil {
		t.Fatal(err)
	}
	path := statePath(t)
	keep(t, path, private[0].PublicKey)
	if content := read(t, path); strings.Contains(content, `"d"`) || !bytes.Contains([]byte(content), []byte(private[0].KeyID())) {
		t.Errorf("state %s", content)
	}
}

// A file that other users can replace is neither published nor written.
func TestStateInDirectoryOfOthers(t *testing.T) {
	path := statePath(t)
	keep(t, path, newKey(t, "a"))
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	before := read(t, path)
	source, w := new(fake), new(world)
	m := w.mirror(source, path)
	wantKeys(t, m, w, "")
	source.has(newKey(t, "b"))
	refresh(t, m, "lets other users write to it")
	wantKeys(t, m, w, "b")
	if read(t, path) != before {
		t.Error("it was overwritten")
	}
}

// An earlier version may have kept a key that is refused now.
func TestStateWithUnusableKeys(t *testing.T) {
	path := statePath(t)
	a := newKey(t, "a")
	keep(t, path, a)
	content := read(t, path)
	unusable := `{"kty":"RSA","kid":"large","e":"AQAB","n":"` + strings.Repeat("_", 1366) + `"}`
	for name, tt := range map[string]struct{ keys, want string }{
		"beside a sound one": {`{"keys":[` + unusable + `,`, "a"},
		"alone":              {`{"keys":[` + unusable + `],"sound":[`, ""},
	} {
		write(t, path, strings.Replace(content, `{"keys":[`, tt.keys, 1))
		source, w := new(fake), new(world)
		source.fails("dead")
		m := w.mirror(source, path)
		if got := kids(m.Keys()); got != tt.want || m.Status().Failure != nil {
			t.Errorf("%s: got %q, %+v", name, got, m.Status())
		}
		source.has(newKey(t, "a")) // what a has named is known anyway
		refresh(t, m, `kid "a" named another key before`)
	}
}

// FuzzState makes sure that a file which is read can be written, and is the same then.
func FuzzState(f *testing.F) {
	path := statePath(f)
	keep(f, path, newKey(f, "a"), newKey(f, "b"))
	content := read(f, path)
	f.Add(content)
	f.Add(strings.Replace(content, `{"keys":[`, `{"keys":[{},`, 1))
	f.Add(strings.Replace(content, `"known":[`, `"known":[{"kid":"c","sha256":"AAAA"},`, 1))
	f.Fuzz(func(t *testing.T, content string) {
		write(t, path, content)
		source, w := new(fake), new(world)
		source.fails("dead")
		m := w.mirror(source, path)
		if m.Status().Failure != nil {
			return
		}
		published := kids(m.Keys())
		if published != "" && len(m.Keys()) != m.Status().Keys {
			t.Fatalf("status %+v", m.Status())
		}
		source.has(m.Keys()...)
		if err := m.Refresh(t.Context()); err != nil && published != "" {
			t.Fatal(err)
		}
		source.fails("dead")
		if again := kids(new(world).mirror(source, path).Keys()); again != published {
			t.Fatalf("published %q, and later %q", published, again)
		}
	})
}
