//go:build unix && !linux

package signer

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// What this system can do: see the file for Linux.
const peersKnown, modeIsSet = false, false

// restrictMode does nothing on this system: the mode is set after the socket has
// its name.
func restrictMode(_, _ string, _ syscall.RawConn) error { return nil }

// setFile sets the mode and, unless it is negative, the group of the socket at
// path. It follows no link.
func setFile(path string, mode uint32, gid int) error {
	if gid >= 0 {
		if err := os.Lchown(path, -1, gid); err != nil {
			return err
		}
	}
	return unix.Fchmodat(unix.AT_FDCWD, path, mode, unix.AT_SYMLINK_NOFOLLOW)
}

func peer(*net.UnixConn) (uid uint32, pid int32, err error) { return 0, 0, errors.ErrUnsupported }
