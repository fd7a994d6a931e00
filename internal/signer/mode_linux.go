package signer

import "syscall"

// restrictMode sets the mode of the socket before it gets its name, so that other
// users can connect at no time.
func restrictMode(_, _ string, c syscall.RawConn) error {
	var chmodErr error
	if err := c.Control(func(fd uintptr) { chmodErr = syscall.Fchmod(int(fd), 0o600) }); err != nil {
		return err
	}
	return chmodErr
}
