// Package filemode says whether users other than that of this process, and root,
// can change the directories that the process relies on, and what helps: also
// where Kubernetes or systemd set the mode.
//
//	if err := filemode.CheckDir("/run/oidc-provider"); err != nil {
//		return err
//	}
package filemode

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
)

// CheckDir returns an error if a user other than that of this process, and root,
// owns the directory or can write to it. That includes a directory like /tmp: its
// sticky bit protects existing files, but any user can be the first to use a name.
// The error wraps [fs.ErrNotExist] if there is no directory. On systems without
// numeric file owners, CheckDir checks only that.
func CheckDir(dir string) error {
	stated := input.Stat(dir)[0]
	info := stated.Info
	if stated.Err != nil {
		return stated.Err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if err := CheckOwner(info, dir); err != nil {
		return err
	}
	if mode := info.Mode().Perm(); hasOwners && mode&0o022 != 0 {
		return hint.Errorf(Hint(info, dir, "go-w"), "%s has mode %04o, which lets other users write to it", dir, mode)
	}
	return nil
}

// CheckOwner returns an error if a user other than that of this process, and root,
// owns the file or directory at path.
func CheckOwner(info fs.FileInfo, path string) error {
	owner, ok := ownerOf(info)
	if !ok || owner == 0 || owner == os.Geteuid() {
		return nil
	}
	help := fmt.Sprintf("run `chown -R %d %s`, or run this program as user %d", os.Geteuid(), path, owner)
	return hint.Errorf(help, "%s belongs to user %d, and this process is user %d", path, owner, os.Geteuid())
}

// Hint says how to take access to the file or directory at path away from other
// users. mode is what chmod(1) needs for that. Where something else sets the mode
// again and again, the hint says how to stop that.
func Hint(info fs.FileInfo, path, mode string) string {
	chmod := fmt.Sprintf("run `chmod %s %s`", mode, path)
	dir := path
	if !info.IsDir() {
		dir = filepath.Dir(path)
	}
	switch {
	case setByKubelet(info, dir):
		return fmt.Sprintf("in Kubernetes, fsGroup gives the group access to a volume at every mount: use a subdirectory of "+
			"the volume, set fsGroupChangePolicy: OnRootMismatch in the securityContext of the Pod, and run "+
			"`chmod -R go= %s` once; elsewhere %s", dir, chmod)
	case setBySystemd(dir):
		return fmt.Sprintf("%s; if systemd creates the directory, set StateDirectoryMode=0700, "+
			"or RuntimeDirectoryMode=0700 for a RuntimeDirectory", chmod)
	}
	return chmod
}

// setByKubelet reports whether a directory looks like those of a volume with an
// fsGroup: its group may write, and new files get its group.
func setByKubelet(info fs.FileInfo, dir string) bool {
	if !info.IsDir() {
		var err error
		if info, err = os.Stat(dir); err != nil {
			return false
		}
		return info.Mode()&fs.ModeSetgid != 0
	}
	return info.Mode()&fs.ModeSetgid != 0 && info.Mode().Perm()&0o070 == 0o070
}

// setBySystemd reports whether systemd may have created a directory: for a service
// it says so, and a command of an operator goes by the usual parents.
func setBySystemd(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	parents := []string{"/var/lib", "/run", "/var/run"}
	for _, name := range []string{"STATE_DIRECTORY", "RUNTIME_DIRECTORY"} {
		parents = append(parents, filepath.SplitList(os.Getenv(name))...)
	}
	for _, parent := range parents {
		if parent != "" && strings.HasPrefix(dir+"/", strings.TrimSuffix(parent, "/")+"/") {
			return true
		}
	}
	return false
}
