package e2e

import "syscall"

// dieWithParent makes the kernel kill a child when the test binary ends in a
// way that runs no cleanup, such as a panic or a time-out. A group of its own
// keeps a Ctrl-C at the terminal from reaching the child before the test does.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
