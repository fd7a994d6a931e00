//go:build !linux

package signer

import "syscall"

// restrictMode does nothing on this system: the mode is set after the socket has
// its name.
func restrictMode(_, _ string, _ syscall.RawConn) error { return nil }
