package filemode

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"oidc-provider/internal/input"
)

// DeniedFile returns the hint for a permission that was denied when this process opened
// the file at path, or made it.
func DeniedFile(path string) string {
	stated := input.Stat(path)[0]
	if stated.Err != nil {
		return Denied(filepath.Dir(path))
	}
	return denied(stated.Info, path, 0o600, "u+rw")
}

// Denied returns the hint for a permission that was denied when this process changed the
// directory dir: its owner and mode, and what helps. If dir is hidden, the hint is
// for the directory above that hides it. It returns "" if it knows nothing.
func Denied(dir string) string {
	stated := input.Stat(dir)[0]
	if stated.Err == nil {
		return denied(stated.Info, dir, 0o300, "u+rwx")
	}
	for parent := filepath.Dir(dir); parent != dir; parent = filepath.Dir(dir) {
		dir = parent
		if stated = input.Stat(dir)[0]; stated.Err != nil {
			continue
		}
		if owner, ok := ownerOf(stated.Info); ok {
			return fmt.Sprintf("%s: use a directory that this user can reach, or run this program as user %d",
				whose(stated.Info, owner, dir), owner)
		}
	}
	return ""
}

// denied returns the hint for the file or directory at path, whose owner needs the bits
// of need, which chmod(1) sets with chmod.
func denied(info fs.FileInfo, path string, need fs.FileMode, chmod string) string {
	owner, ok := ownerOf(info)
	if !ok {
		return ""
	}
	facts, me := whose(info, owner, path), os.Geteuid()
	switch {
	case owner == me && info.Mode().Perm()&need != need:
		return fmt.Sprintf("%s: run `chmod %s %s`", facts, chmod, path)
	case owner == me:
		return facts + ": a security module, such as SELinux or AppArmor, may forbid it; see the log of the kernel"
	case info.IsDir() && ofTheSystem(path):
		return fmt.Sprintf("%s: run `install -d -o %d -m 0700 %s`, and use that directory, or run this program as user %d",
			facts, me, filepath.Join(path, "oidc-provider"), owner)
	}
	help := fmt.Sprintf("%s: run `chown %d %s`, or run this program as user %d", facts, me, path, owner)
	if info.IsDir() && setBySystemd(path) {
		help += "; systemd makes a RuntimeDirectory or StateDirectory for the User of the service"
	}
	return help
}

func whose(info fs.FileInfo, owner int, path string) string {
	return fmt.Sprintf("%s belongs to user %d and has mode %04o, and this process is user %d", path, owner,
		info.Mode().Perm(), os.Geteuid())
}

// ofTheSystem reports whether other programs use the directory too, so that it must
// keep its owner.
func ofTheSystem(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return true
	}
	parent := filepath.Dir(dir)
	return parent == filepath.Dir(parent) || dir == "/var/run" || dir == "/var/lib"
}
