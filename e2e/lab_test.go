package e2e

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A lab is what the processes of one test have in common: a directory for their
// files and logs, and the authority that signed their certificates.
type lab struct {
	t   testing.TB
	dir string
	ca  *authority

	logs map[string]bool // paths whose tail is shown if the test fails
}

// handedOut are the ports that the labs have in use, or are about to.
var handedOut sync.Map

func newLab(t testing.TB) *lab {
	t.Helper()
	dir := t.TempDir()
	if root := os.Getenv("E2E_ARTIFACTS"); root != "" {
		dir = filepath.Join(root, t.Name(), time.Now().Format("20060102-150405"))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &lab{t: t, dir: dir, ca: newAuthority(t, dir), logs: make(map[string]bool)}
}

func (l *lab) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

// freePort finds a port below the range from which the kernel takes the ports
// of outgoing connections. A restarted process can then count on its old port:
// no client in the neighbourhood was given it in the meantime.
func (l *lab) freePort() int {
	l.t.Helper()
	for range 200 {
		port := 20000 + rand.IntN(12000)
		listener, err := net.Listen("tcp", address(port))
		if err != nil {
			continue
		}
		listener.Close()
		if _, taken := handedOut.LoadOrStore(port, true); taken {
			continue
		}
		l.t.Cleanup(func() { handedOut.Delete(port) })
		return port
	}
	l.t.Fatal("no free port between 20000 and 32000")
	return 0
}

func address(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// socketPath is in a directory with a short name: a Unix socket's path ends
// after about a hundred bytes, which t.TempDir may well exceed.
func (l *lab) socketPath() string {
	l.t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "signer.sock")
}

// logFile opens a child's log for appending, so that one process restarted many
// times leaves one story, and has its end shown if the test fails.
func (l *lab) logFile(name string) *os.File {
	l.t.Helper()
	path := l.path(name + ".log")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	if !l.logs[path] {
		l.logs[path] = true
		l.t.Cleanup(func() {
			if l.t.Failed() {
				l.t.Logf("end of %s:\n%s", path, tail(path, 60))
			}
		})
	}
	return file
}

func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n"))
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return string(bytes.Join(all, []byte("\n")))
}

// eventually calls check until it returns nil, and fails the test with its last
// error if that does not happen in time.
func eventually(t testing.TB, what string, within time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (l *lab) write(name, content string) string {
	l.t.Helper()
	path := l.path(name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}
