package e2e

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A child is a process that does not outlive the test which started it.
type child struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

func (l *lab) startChild(name, binary string, args ...string) *child {
	l.t.Helper()
	log := l.logFile(name)
	defer log.Close()

	c := &child{t: l.t, name: name, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = dieWithParent()
	if err := c.cmd.Start(); err != nil {
		l.t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		defer close(c.done)
		c.cmd.Wait() // whoever waits on done looks at ProcessState
	}()
	l.t.Cleanup(c.kill)
	return c
}

// kill ends the process as a power cut would, and returns when it is gone.
func (c *child) kill() {
	c.cmd.Process.Kill() // fails only if the process has ended already
	<-c.done
}

// stop asks the process to end, and fails the test if it needs to be killed.
func (c *child) stop(within time.Duration) {
	c.t.Helper()
	if c.ended() {
		c.t.Errorf("%s had ended before it was stopped: %s", c.name, c.cmd.ProcessState)
		return
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Errorf("stopping %s: %v", c.name, err)
	}
	select {
	case <-c.done:
	case <-time.After(within):
		c.t.Errorf("%s did not stop within %s of SIGTERM", c.name, within)
		c.kill()
	}
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// awaitReady calls ready until it returns nil. A process that has ended cannot
// become ready: the test fails at once rather than at the deadline.
func (c *child) awaitReady(within time.Duration, ready func() error) {
	c.t.Helper()
	eventually(c.t, c.name+" ready", within, func() error {
		if c.ended() {
			c.t.Fatalf("%s ended during start-up: %s", c.name, c.cmd.ProcessState)
		}
		return ready()
	})
}
