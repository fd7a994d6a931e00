//go:build !linux

package e2e

import "syscall"

// dieWithParent does what systems without a parent-death signal can do: the
// child shares the test's process group, and so its Ctrl-C.
func dieWithParent() *syscall.SysProcAttr { return nil }
