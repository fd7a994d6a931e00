//go:build !linux

package signer

import "syscall"

// restrictMode can do nothing here: the mode is set after the socket has got
// its name.
func restrictMode(_, _ string, _ syscall.RawConn) error { return nil }
