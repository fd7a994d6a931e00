package signer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// What this system can do: tell the user of a peer, and set the mode of a socket
// before it gets its name.
const peersKnown, modeIsSet = true, true

// restrictMode sets the mode of the socket before it gets its name, so that other
// users can connect at no time.
func restrictMode(_, _ string, c syscall.RawConn) error {
	var chmodErr error
	if err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), defaultMode) }); err != nil {
		return err
	}
	return chmodErr
}

// setFile sets the mode and, unless it is negative, the group of the socket at
// path. It follows no link, and changes nothing but a socket of this user.
func setFile(path string, mode uint32, gid int) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK || int(stat.Uid) != os.Geteuid() {
		return errors.New("another process has replaced it")
	}
	if gid >= 0 && int(stat.Gid) != gid {
		if err := chmod(fd, defaultMode); err != nil { // the new group gets what mode says, the old one nothing more
			return err
		}
		if err := unix.Fchownat(fd, "", -1, gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("setting its group to %d: %w", gid, err)
		}
	}
	return chmod(fd, mode)
}

// chmod changes the mode of a file that was opened with O_PATH. Linux before 6.6
// needs /proc for that.
func chmod(fd int, mode uint32) error {
	err := unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if err != nil {
		err = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
	}
	if err != nil {
		return fmt.Errorf("setting its mode to %04o: %w", mode, err)
	}
	return nil
}

// peer returns the user and the process at the other end of a connection.
func peer(conn *net.UnixConn) (uid uint32, pid int32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, 0, err
	}
	if credErr != nil {
		return 0, 0, credErr
	}
	return cred.Uid, cred.Pid, nil
}
