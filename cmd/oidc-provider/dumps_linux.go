package main

import "golang.org/x/sys/unix"

// forbidDumps prevents core dumps, which would contain private keys, and lets no
// other process of this user read the memory of this one.
func forbidDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
