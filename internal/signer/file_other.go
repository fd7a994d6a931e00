//go:build !unix

package signer

import (
	"errors"
	"net"
	"syscall"
)

// What this system can do: see the file for Linux.
const peersKnown, modeIsSet = false, true

func restrictMode(_, _ string, _ syscall.RawConn) error { return nil }

func setFile(string, uint32, int) error { return errors.ErrUnsupported }

func peer(*net.UnixConn) (uid uint32, pid int32, err error) { return 0, 0, errors.ErrUnsupported }
