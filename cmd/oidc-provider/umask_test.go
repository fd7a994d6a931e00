//go:build unix

package main

import "syscall"

// The tests make directories that other users may not write to, also where new
// ones are writable for their group by default.
func init() { syscall.Umask(0o022) }
