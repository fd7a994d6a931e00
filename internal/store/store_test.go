package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/internal/store/storetest"
	"oidc-provider/rotation"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Backend {
		var m store.Memory
		return storetest.Backend{Open: func(*testing.T) rotation.Store { return &m }}
	})
}

func TestFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		dir := filepath.Join(t.TempDir(), "keys")
		return storetest.Backend{Open: func(*testing.T) rotation.Store { return store.NewFile(dir) }}
	})
}

func TestFileModes(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := store.NewFile(dir).Swap(ctx, []byte("ring"), ""); err != nil {
		t.Fatal(err)
	}
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
		if _, _, err := s.Load(ctx); err == nil || !strings.Contains(hint.Of(err), want) {
			t.Errorf("Load of %s with mode %o: got %v, want the hint %q", tt.path, tt.mode, err, want)
		}
		if err := s.Swap(ctx, []byte("new"), v); err == nil || !strings.Contains(hint.Of(err), want) {
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

// A crashed writer leaves its unfinished file; a failed write leaves the ring.
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
	// A directory with the name of the new file makes every write fail, even
	// as root.
	if err := os.MkdirAll(filepath.Join(dir, "ring.json.new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Swap(ctx, []byte("two"), v); err == nil || errors.Is(err, rotation.ErrConflict) {
		t.Errorf("a write that must fail: got %v", err)
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

// Root may write here for another user, and so must not follow that user's links.
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
		s, err := store.Open(store.Config{Store: spec})
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if s, want := s.Store.(*store.File).String(), dir+"/a"; s != want {
			t.Errorf("%s: got %v", spec, s)
		}
	}
	for _, spec := range []string{"", "file:", "file://", "C:x", "etcd:a", "etcd://", "etcd://a:b", "secret:", "secret:a", "secret:A/b"} {
		if s, err := store.Open(store.Config{Store: spec}); err == nil {
			t.Errorf("%q: got %v", spec, s)
		}
	}
}

// Opening connects to nothing.
func TestOpenRemote(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	password := write("password", "hunter2\n")
	kubeconfig := write("kubeconfig", `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: x, context: {cluster: c}}]
`)
	for _, tt := range []struct {
		spec    string
		options store.Config
		want    string // "" if it is refused
	}{
		{"etcd://localhost,127.0.0.1:1/p", store.Config{}, "*etcd.Store"},
		{"etcds://a", store.Config{}, "*etcd.Store"},
		{"ETCD://[::1]", store.Config{Etcd: store.Etcd{User: "u", PasswordFile: password}}, "*etcd.Store"},
		{"etcd://localhost", store.Config{Etcd: store.Etcd{User: "u"}}, ""},
		{"etcd://localhost", store.Config{Etcd: store.Etcd{PasswordFile: password}}, ""},
		{"etcd://localhost", store.Config{Etcd: store.Etcd{User: "u", PasswordFile: password + "x"}}, ""},
		{"etcd://a", store.Config{Etcd: store.Etcd{CAFile: password}}, ""},
		{"etcd://a", store.Config{Etcd: store.Etcd{CertFile: password}}, ""},
		{"secret:ns/name", store.Config{Kubeconfig: kubeconfig, Context: "x"}, "*secret.Store"},
		{"secret:ns/name", store.Config{Kubeconfig: kubeconfig, Context: "y"}, ""},
		{"secret:ns/name", store.Config{}, ""},
	} {
		cfg := tt.options
		cfg.Store = tt.spec
		s, err := store.Open(cfg)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%T", s.Store)
		}
		if got != tt.want {
			t.Errorf("%s, %+v: got %q, %v, want %q", tt.spec, tt.options, got, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the password: %v", tt.spec, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

// Plain connections stay on this machine, unless they are asked for.
func TestPlainEtcd(t *testing.T) {
	for _, tt := range []struct {
		spec   string
		remote string // the endpoint that the error names
	}{
		{"etcd://127.0.0.1", ""},
		{"etcd://127.1.2.3:1,LOCALHOST/p", ""},
		{"etcd://[::1]:2379", ""},
		{"etcd://[::ffff:127.0.0.1]", ""},
		{"etcd://a", "a:2379"},
		{"ETCD://a:1", "a:1"},
		{"etcd://127.0.0.1,b,c", "b:2379"},
		{"etcd://10.0.0.1", "10.0.0.1:2379"},
		{"etcd://0.0.0.0", "0.0.0.0:2379"},
		{"etcd://[fe80::2]", "[fe80::2]:2379"},
		{"etcd://[::ffff:10.0.0.1]", "[::ffff:10.0.0.1]:2379"},
		{"etcd://localhost.example.com", "localhost.example.com:2379"},
		{"etcd://127.0.0.1.example.com", "127.0.0.1.example.com:2379"},
		{"etcd://127.1", "127.1:2379"}, // a name to Go
	} {
		s, err := store.Open(store.Config{Store: tt.spec})
		if err == nil {
			s.Close()
		}
		switch {
		case tt.remote == "" && err != nil:
			t.Errorf("%s: %v", tt.spec, err)
		case tt.remote != "" && err == nil:
			t.Errorf("%s is opened", tt.spec)
		case tt.remote != "":
			for _, word := range []string{"between this machine and " + tt.remote + " can", "etcds://", "etcd.caFile", "etcd.insecure"} {
				if text := hint.Text(err, hint.Field); !strings.Contains(text, word) {
					t.Errorf("%s: no %q in %q", tt.spec, word, text)
				}
			}
		}
		for name, cfg := range map[string]store.Config{
			"TLS":      {Store: strings.Replace(strings.ToLower(tt.spec), "etcd:", "etcds:", 1)},
			"insecure": {Store: tt.spec, Etcd: store.Etcd{Insecure: true}},
		} {
			s, err := store.Open(cfg)
			if err != nil {
				t.Errorf("%s with %s: %v", tt.spec, name, err)
				continue
			}
			s.Close()
		}
	}
}
