package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"oidc-provider/rotation"
	"oidc-provider/store"
)

// Every store passes this. open returns a handle on the same, at first empty
// place each time it is called, as another process would have one.
func testStore(t *testing.T, open func() rotation.Store) {
	ctx := context.Background()
	s := open()
	load := func(s rotation.Store) (string, rotation.Version) {
		t.Helper()
		data, v, err := s.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(data), v
	}

	if data, v := load(s); data != "" || v != "" {
		t.Fatalf("an empty store holds %q, version %q", data, v)
	}
	if err := s.Swap(ctx, []byte("a"), "no such version"); !errors.Is(err, rotation.ErrConflict) {
		t.Errorf("first write with a version: got %v, want ErrConflict", err)
	}
	if err := s.Swap(ctx, []byte("one"), ""); err != nil {
		t.Fatal(err)
	}
	data, v1 := load(open())
	if data != "one" || v1 == "" {
		t.Fatalf("another handle reads %q, version %q", data, v1)
	}
	if err := s.Swap(ctx, []byte("other"), ""); !errors.Is(err, rotation.ErrConflict) {
		t.Errorf("second first write: got %v, want ErrConflict", err)
	}
	if err := open().Swap(ctx, []byte("two"), v1); err != nil {
		t.Fatal(err)
	}
	if err := s.Swap(ctx, []byte("three"), v1); !errors.Is(err, rotation.ErrConflict) {
		t.Errorf("write over an old version: got %v, want ErrConflict", err)
	}
	data, v2 := load(s)
	if data != "two" || v2 == v1 {
		t.Errorf("reads %q, version %q after %q", data, v2, v1)
	}
	if _, again := load(s); again != v2 {
		t.Errorf("version changed from %q to %q without a write", v2, again)
	}

	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := s.Swap(ctx, large, v2); err != nil {
		t.Fatal(err)
	}
	if data, _ := load(open()); data != string(large) {
		t.Errorf("a document of %d bytes came back with %d", len(large), len(data))
	}

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, v3 := load(s)
	if err := s.Swap(cancelled, []byte("never"), v3); err == nil {
		t.Error("Swap with a cancelled context succeeded")
	}
	if _, _, err := s.Load(cancelled); err == nil {
		t.Error("Load with a cancelled context succeeded")
	}
	if _, v := load(s); v != v3 {
		t.Error("Swap with a cancelled context wrote")
	}
	testConcurrentWriters(t, open)
}

// Each of many writers adds its lines, one at a time: none may get lost.
func testConcurrentWriters(t *testing.T, open func() rotation.Store) {
	const writers, lines = 8, 10
	ctx := context.Background()
	_, v, err := open().Load(ctx)
	if err == nil {
		err = open().Swap(ctx, nil, v)
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			s := open()
			for n := range lines {
				for {
					data, v, err := s.Load(ctx)
					if err == nil {
						err = s.Swap(ctx, fmt.Appendf(data, "%d.%d\n", w, n), v)
					}
					if err == nil {
						break
					}
					if !errors.Is(err, rotation.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	data, _, err := open().Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		for n := range lines {
			if line := fmt.Sprintf("%d.%d\n", w, n); strings.Count("\n"+string(data), "\n"+line) != 1 {
				t.Errorf("line %q stands %d times", line, strings.Count(string(data), line))
			}
		}
	}
}

func TestMemory(t *testing.T) {
	var m store.Memory
	testStore(t, func() rotation.Store { return &m })
}

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	testStore(t, func() rotation.Store { return store.NewFile(dir) })
	for path, want := range map[string]os.FileMode{dir: 0o700, dir + "/ring.json": 0o600, dir + "/ring.lock": 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	if _, err := os.Stat(dir + "/ring.json.new"); err == nil {
		t.Error("a half-written file was left")
	}
}

func TestFileRefusesModes(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "keys")
	s := store.NewFile(dir)
	if err := s.Swap(ctx, []byte("ring"), ""); err != nil {
		t.Fatal(err)
	}
	_, v, err := s.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path       string
		mode, good os.FileMode
	}{
		{dir, 0o750, 0o700}, {dir, 0o701, 0o700},
		{dir + "/ring.json", 0o640, 0o600}, {dir + "/ring.json", 0o604, 0o600},
	} {
		if err := os.Chmod(tt.path, tt.mode); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("chmod %o %s", tt.good, tt.path)
		if _, _, err := s.Load(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load of %s with mode %o: got %v, want the hint %q", tt.path, tt.mode, err, want)
		}
		if err := s.Swap(ctx, []byte("new"), v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Swap of %s with mode %o: got %v, want the hint %q", tt.path, tt.mode, err, want)
		}
		if err := os.Chmod(tt.path, tt.good); err != nil {
			t.Fatal(err)
		}
	}
	if _, again, err := s.Load(ctx); err != nil || again != v {
		t.Errorf("afterwards: version %s, %v", again, err)
	}
}

// A writer that died leaves its unfinished file; a write that fails leaves the
// ring.
func TestFileSurvivesFailedWrites(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "keys")
	s := store.NewFile(dir)
	if err := s.Swap(ctx, []byte("one"), ""); err != nil {
		t.Fatal(err)
	}
	_, v, err := s.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// A full directory where the new file should go fails every write, also
	// those of root.
	if err := os.MkdirAll(filepath.Join(dir, "ring.json.new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Swap(ctx, []byte("two"), v); err == nil || errors.Is(err, rotation.ErrConflict) {
		t.Errorf("a write that cannot work: got %v", err)
	}
	if data, again, err := s.Load(ctx); string(data) != "one" || again != v {
		t.Errorf("afterwards the ring is %q, %v", data, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "ring.json.new")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ring.json.new"), []byte("tw"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := s.Swap(ctx, []byte("two"), v); err != nil {
		t.Errorf("after a writer died: %v", err)
	}
}

// An empty file is not an empty store: it was a ring once.
func TestFileTruncatedIsNotEmpty(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ring.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := store.NewFile(dir)
	if _, v, err := s.Load(ctx); err != nil || v == "" {
		t.Errorf("got version %q, %v", v, err)
	}
	if err := s.Swap(ctx, []byte("new"), ""); !errors.Is(err, rotation.ErrConflict) {
		t.Errorf("first write over it: got %v, want ErrConflict", err)
	}
}

// Root may write here for somebody else: names in the directory lead nowhere
// else.
func TestFileFollowsNoLinks(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"ring.json", "ring.lock", "ring.json.new"} {
		outside := filepath.Join(t.TempDir(), "outside")
		dir := filepath.Join(t.TempDir(), "keys")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		err := store.NewFile(dir).Swap(ctx, []byte("ring"), "")
		if name != "ring.json.new" && (err == nil || !strings.Contains(err.Error(), "not a regular file")) {
			t.Errorf("%s is a link: %v", name, err)
		}
		if _, err := os.Lstat(outside); err == nil {
			t.Errorf("%s is a link, and was followed", name)
		}
	}
}

func TestFileIsNotADirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := store.NewFile(path)
	if _, _, err := s.Load(context.Background()); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("Load: %v", err)
	}
	if err := s.Swap(context.Background(), []byte("x"), ""); err == nil {
		t.Error("Swap replaced a file")
	}
	if data, _ := os.ReadFile(path); string(data) != "mine" {
		t.Errorf("the file became %q", data)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, spec := range []string{dir + "/a", "file:" + dir + "/a", "file://" + dir + "/a", "FILE:" + dir + "/a"} {
		s, err := store.Open(spec)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if s, want := s.(*store.File), store.NewFile(dir+"/a"); *s != *want {
			t.Errorf("%s: got %v", spec, s)
		}
	}
	for _, spec := range []string{"", "file:", "file://", "etcd://a", "secret:a/b", "C:x"} {
		if s, err := store.Open(spec); err == nil {
			t.Errorf("%q: got %v", spec, s)
		}
	}
}
