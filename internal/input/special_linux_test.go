package input_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"oidc-provider/internal/input"
)

// What is not a regular file is refused at once, also behind a link.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(syscall.Mkfifo(at("pipe"), 0o600), syscall.Mkfifo(at("other"), 0o600),
		os.Symlink("pipe", at("link")), os.Symlink("link", at("link2")), os.Symlink("loop", at("loop")),
		os.Symlink("/dev/zero", at("zero")), os.Symlink("/dev/tty", at("tty"))); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	writer, err := os.OpenFile(at("other"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	for name, want := range map[string]string{
		"pipe": "it is a pipe", "other": "it is a pipe", "link": "it is a pipe", "link2": "it is a pipe",
		"loop": "too many levels", "zero": "it is a device", "tty": "it is a device", "socket": "it is a socket",
		".": "it is a directory", "pipe/x": "not a directory",
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			_, _, err := input.ReadFile(at(name), 1000)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), at(name)) {
				t.Errorf("got %v, want %q with the path", err, want)
			}
			if took := time.Since(begin); took > 900*time.Millisecond {
				t.Errorf("it took %v", took)
			}
		})
	}
	// Those of the kernel have no size, and are regular files.
	if data, _, err := input.ReadFile("/proc/self/status", 1<<16); err != nil || len(data) == 0 {
		t.Errorf("/proc/self/status: %q, %v", data, err)
	}
}
