//go:build unix

package mirror_test

import "syscall"

// The tests make directories that other users may not write to, also where new
// ones are writable for their group by default.
func init() { syscall.Umask(0o022) }
