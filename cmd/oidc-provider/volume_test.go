package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mount does to a volume what the kubelet does for a Pod with an fsGroup.
func mount(t *testing.T, volume string) {
	t.Helper()
	err := filepath.WalkDir(volume, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode() | 0o660
		if entry.IsDir() {
			mode |= 0o070 | fs.ModeSetgid
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestVolumeWithFSGroup follows the hint of a store that the kubelet has made
// accessible for a group.
func TestVolumeWithFSGroup(t *testing.T) {
	p := ownProcess(t)
	volume := filepath.Join(p.dir, "volume")
	if err := os.Mkdir(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	if p.as != nil {
		p.give(volume, p.as)
	}
	mount(t, volume)
	p.must("keys", "init", "--store", "volume/keys", "--issuer", p.issuer, "--algorithm", "ES256")
	p.must("keys", "list", "--store", "volume/keys") // of the same mount
	mount(t, volume)
	if err := p.command("keys", "list", "--store", "volume/keys").Run(); err == nil {
		t.Error("the group can read the keys, and they are used")
	}
	_, command, _ := strings.Cut(p.output(), "and run `")
	command, rest, _ := strings.Cut(command, "`")
	if !strings.HasPrefix(command, "chmod -R go= ") || !strings.Contains(rest, "once") ||
		!strings.Contains(p.output(), "fsGroupChangePolicy: OnRootMismatch") {
		t.Fatalf("no hint for Kubernetes in\n%s", p.output())
	}
	chmod := p.shell(command)
	if out, err := chmod.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	p.must("keys", "list", "--store", "volume/keys")
	p.must("keys", "rotate", "--store", "volume/keys", "--force")
}
