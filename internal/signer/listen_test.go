package signer_test

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/signer"
)

func listen(t *testing.T, path string, access signer.Access) (*signer.Listener, error) {
	return signer.Listen(t.Context(), path, access, slog.New(slog.DiscardHandler))
}

// stale leaves what a process that was killed leaves at path.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// Of processes that find a stale socket at the same time, one gets it, and the
// others do not remove it again.
func TestListenAtTheSameTime(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	for range 20 {
		stale(t, path)
		var mu sync.Mutex
		var wg sync.WaitGroup
		var won []*signer.Listener
		for range 4 {
			wg.Go(func() {
				l, err := listen(t, path, signer.Access{})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, l)
				} else if !strings.Contains(err.Error(), "another process listens") {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d listen", len(won))
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("the one that listens is unreachable: %v", err)
		}
		conn.Close()
		won[0].Close()
	}
}

func TestListenWhileLocked(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	lock := flock.New(path + ".lock")
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t, path, signer.Access{}); err == nil || !strings.Contains(err.Error(), "another process is opening it") {
		t.Errorf("got %v", err)
	}
	lock.Close()
	l, err := listen(t, path, signer.Access{})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestListenModes(t *testing.T) {
	for _, tt := range []struct {
		access signer.Access
		want   os.FileMode // 0 if it is refused
		says   string
	}{
		{signer.Access{}, 0o600, ""},
		{signer.Access{Mode: "0600"}, 0o600, ""},
		{signer.Access{Mode: "660"}, 0o660, ""}, // more than a usual umask leaves
		{signer.Access{Mode: "0777"}, 0o777, ""},
		{signer.Access{Mode: "0666", UIDs: []uint{0, 1<<32 - 2}}, 0o666, ""},
		{signer.Access{Mode: "0060"}, 0, "want 0600 to 0777"},
		{signer.Access{Mode: "4600"}, 0, "want 0600 to 0777"},
		{signer.Access{Mode: "u=rw"}, 0, "want 0600 to 0777"},
		{signer.Access{Mode: "0x1ff"}, 0, "want 0600 to 0777"},
		{signer.Access{Mode: "-600"}, 0, "want 0600 to 0777"},
		{signer.Access{Group: "no such group"}, 0, "unknown group no such group"},
		{signer.Access{Group: "-1"}, 0, "unknown group -1"},
		{signer.Access{UIDs: []uint{1<<32 - 1}}, 0, "4294967295 is not a user"},
		{signer.Access{UIDs: []uint{1 << 40}}, 0, "1099511627776 is not a user"},
	} {
		path := filepath.Join(socketDir(t), "s")
		l, err := listen(t, path, tt.access)
		if tt.want == 0 {
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%+v: got %v, want %q", tt.access, err, tt.says)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%+v: it is refused, and there is a socket: %v", tt.access, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tt.access, err)
			continue
		}
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != tt.want {
			t.Errorf("%+v: got mode %v, %v", tt.access, info.Mode(), err)
		}
		l.Close()
	}
}

// A link at the path of the socket leads nowhere, also if it is put there while
// the socket is open.
func TestListenFollowsNoLinks(t *testing.T) {
	dir := socketDir(t)
	path, target := filepath.Join(dir, "s"), filepath.Join(dir, "target")
	if err := os.WriteFile(target, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	link := func() {
		t.Helper()
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	link()
	if _, err := listen(t, path, signer.Access{Mode: "0666"}); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v", err)
	}
	os.Remove(path)
	l, err := listen(t, path, signer.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	os.Remove(path)
	link()
	if err := l.Admit(signer.Access{Mode: "0666"}); err == nil || !strings.Contains(err.Error(), "another process has replaced it") {
		t.Errorf("got %v", err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file that the link names has mode %v, %v", info.Mode(), err)
	}
}

func TestListenNowhere(t *testing.T) {
	dir := socketDir(t)
	for _, tt := range []struct{ path, want string }{
		{filepath.Join(dir, "none", "s"), "set {signerSocket} to a path in an existing directory"},
		{filepath.Join(dir, strings.Repeat("x", 120)), "at most 107 bytes"},
		{"@", "such as @oidc-provider"},
		{"/dev/null/s", ""},
		{"/tmp/oidc-provider-test.sock", "{signerSocket} to a path in a directory of its own"},
	} {
		if l, err := listen(t, tt.path, signer.Access{}); err == nil || !strings.Contains(hint.Of(err), tt.want) {
			t.Errorf("%s: got %v, %v with hint %q", tt.path, l, err, hint.Of(err))
		}
	}
}
