package filemode_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oidc-provider/internal/filemode"
	"oidc-provider/internal/hint"
)

func makeDir(t *testing.T, path string, mode fs.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckDir(t *testing.T) {
	for _, tt := range []struct {
		mode fs.FileMode
		want string // "" if it is accepted
	}{
		{0o700, ""}, {0o750, ""}, {0o755, ""}, {0o711, ""}, {0o700 | fs.ModeSetgid, ""},
		{0o770, "mode 0770"}, {0o720, "mode 0720"}, {0o702, "mode 0702"}, {0o777 | fs.ModeSticky, "mode 0777"},
		{0o775 | fs.ModeSetgid, "mode 0775"},
	} {
		dir := makeDir(t, filepath.Join(t.TempDir(), "d"), tt.mode)
		switch err := filemode.CheckDir(dir); {
		case tt.want == "" && err != nil:
			t.Errorf("%v: %v", tt.mode, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%v: got %v, want %q", tt.mode, err, tt.want)
		}
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		if err := filemode.CheckDir(link); (err == nil) != (tt.want == "") {
			t.Errorf("a link to a directory of %v: %v", tt.mode, err)
		}
	}
	if err := filemode.CheckDir(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := filemode.CheckDir(file); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
}

func TestCheckDirOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		// What root owns is accepted, and what no other user can write to.
		if err := filemode.CheckDir("/"); err != nil {
			t.Error(err)
		}
		return
	}
	dir := makeDir(t, filepath.Join(t.TempDir(), "d"), 0o700)
	if err := os.Chown(dir, 20001, 20001); err != nil {
		t.Fatal(err)
	}
	err := filemode.CheckDir(dir)
	if err == nil || !strings.Contains(err.Error(), "belongs to user 20001") || !strings.Contains(hint.Of(err), "chown -R 0 ") {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
}

// TestHint expects hints that help where something else sets modes again.
func TestHint(t *testing.T) {
	state := t.TempDir()
	t.Setenv("STATE_DIRECTORY", "/nowhere:"+state)
	t.Setenv("RUNTIME_DIRECTORY", state+"-run/")
	const kubelet, systemd = "fsGroupChangePolicy: OnRootMismatch", "StateDirectoryMode=0700"
	for _, tt := range []struct {
		name, dir string
		mode      fs.FileMode
		file      fs.FileMode // of a file in it that the hint is about, 0 if it is about the directory
		want      string      // kubelet, systemd, or "" for chmod alone
	}{
		{"fsGroup", "volume/keys", 0o770 | fs.ModeSetgid, 0, kubelet},
		{"fsGroup, readable for others", "volume/keys", 0o775 | fs.ModeSetgid, 0, kubelet},
		{"fsGroup, mount point of an emptyDir", "volume", 0o777 | fs.ModeSetgid, 0, kubelet},
		{"fsGroup, file", "volume/keys", 0o770 | fs.ModeSetgid, 0o660, kubelet},
		{"fsGroup, read-only volume", "volume/keys", 0o750 | fs.ModeSetgid, 0o640, kubelet},
		{"mode of systemd", state, 0o755, 0, systemd},
		{"mode of systemd, below", state + "/keys", 0o755, 0, systemd},
		{"mode of systemd, file", state, 0o755, 0o644, systemd},
		{"runtime directory of systemd", state + "-run", 0o755, 0, systemd},
		{"other name", state + "x", 0o755, 0, ""},
		{"plain", "keys", 0o750, 0, ""},
		{"plain, group may write", "keys", 0o770, 0, ""},
		{"plain, file", "keys", 0o700, 0o660, ""},
		{"setgid, group may not write", "keys", 0o750 | fs.ModeSetgid, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.dir
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(t.TempDir(), dir)
			}
			path := makeDir(t, dir, tt.mode)
			if filepath.IsAbs(tt.dir) {
				t.Cleanup(func() { os.RemoveAll(dir) })
			}
			if tt.file != 0 {
				path = filepath.Join(dir, "ring.json")
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, tt.file); err != nil {
					t.Fatal(err)
				}
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			got := filemode.Hint(info, path, "700")
			if !strings.Contains(got, "run `chmod 700 "+path+"`") {
				t.Errorf("got %q, want the command", got)
			}
			for _, where := range []string{kubelet, systemd} {
				if strings.Contains(got, where) != (where == tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			}
		})
	}
}
