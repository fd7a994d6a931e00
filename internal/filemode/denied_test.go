package filemode_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oidc-provider/internal/filemode"
)

func TestDenied(t *testing.T) {
	me := os.Geteuid()
	const another = 20011
	runtime := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", runtime)
	for _, tt := range []struct {
		name, dir string
		mode      fs.FileMode
		owner     int
		want      string // after the path
	}{
		{"mine, not writable", "d", 0o500, me, "has mode 0500, and this process is user ME: run `chmod u+rwx DIR`"},
		{"mine, not searchable", "d", 0o600, me, "has mode 0600, and this process is user ME: run `chmod u+rwx DIR`"},
		{"mine, writable", "d", 0o700, me, "a security module"},
		{"of another", "d", 0o755, another, "belongs to user 20011 and has mode 0755, and this process is user ME: " +
			"run `chown ME DIR`, or run this program as user 20011"},
		{"of another, systemd", runtime + "/d", 0o755, another, "; systemd makes a RuntimeDirectory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.owner != me && me != 0 {
				t.Skip("needs root: it takes a second user")
			}
			dir := tt.dir
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(t.TempDir(), dir)
			}
			makeDir(t, dir, tt.mode)
			if err := os.Chown(dir, tt.owner, -1); err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("ME", fmt.Sprint(me), "DIR", dir).Replace(tt.want)
			got := filemode.Denied(dir)
			if !strings.HasPrefix(got, dir+" belongs to user ") || !strings.Contains(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if in := filemode.DeniedFile(filepath.Join(dir, "none")); tt.mode&0o100 != 0 && in != got {
				t.Errorf("for a file that is not there: %q, want %q", in, got)
			}
		})
	}
}

// A directory that other programs use keeps its owner.
func TestDeniedInADirectoryOfTheSystem(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write there")
	}
	got := filemode.Denied("/etc")
	if !strings.Contains(got, "install -d -o ") || !strings.Contains(got, "/etc/oidc-provider") || strings.Contains(got, "chown") {
		t.Errorf("got %q", got)
	}
}

func TestDeniedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.lock")
	if err := os.WriteFile(path, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if got := filemode.DeniedFile(path); !strings.HasSuffix(got, "run `chmod u+rw "+path+"`") {
		t.Errorf("got %q", got)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(path, 20001, -1); err != nil {
		t.Fatal(err)
	}
	if got := filemode.DeniedFile(path); !strings.HasPrefix(got, path+" belongs to user 20001 and has mode 0400") {
		t.Errorf("got %q", got)
	}
}

// The hint is for the directory that can be looked at.
func TestDeniedBelow(t *testing.T) {
	dir := makeDir(t, filepath.Join(t.TempDir(), "d"), 0o700)
	got := filemode.Denied(filepath.Join(dir, "hidden", "run"))
	if !strings.HasPrefix(got, dir+" belongs to user ") || !strings.Contains(got, "a directory that this user can reach") {
		t.Errorf("got %q", got)
	}
}
