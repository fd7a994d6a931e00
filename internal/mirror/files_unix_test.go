//go:build unix

package mirror_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestFilesOfPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa.pub")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	fetch(t, newFiles(t, path), nil, "not a regular file")
	fetch(t, newFiles(t, "/dev/zero"), nil, "not a regular file")
	source, w := new(fake), new(world)
	source.has(newKey(t, "a"))
	refresh(t, w.mirror(source, path), "not a regular file")
}

func TestUnreadableFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	path := filepath.Join(t.TempDir(), "sa.pub")
	write(t, path, testKey(t, "rsa-public.pem"))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	fetch(t, newFiles(t, path), nil, "permission denied")
}
