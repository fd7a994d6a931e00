//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

// forbidDumps prevents core dumps, which would contain private keys.
func forbidDumps() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
