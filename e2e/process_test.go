package e2e

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A child is a process that does not outlive the test which started it.
type child struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended

	logPath string
	logFrom int64 // what comes before is from earlier processes of that name
}

func (l *lab) startChild(name, binary string, args ...string) *child {
	l.t.Helper()
	return l.startChildEnv(nil, name, binary, args...)
}

// startChildEnv adds NAME=value to the environment of the child.
func (l *lab) startChildEnv(env []string, name, binary string, args ...string) *child {
	l.t.Helper()
	log := l.logFile(name)
	defer log.Close()

	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		l.t.Fatal(err)
	}
	c := &child{
		t: l.t, name: name, cmd: exec.Command(binary, args...), done: make(chan struct{}),
		logPath: log.Name(), logFrom: from,
	}
	c.cmd.Env = append(os.Environ(), env...)
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

// stop asks the process to end, and fails the test if it needs to be killed or
// has anything to complain about.
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
		if !c.cmd.ProcessState.Success() {
			c.t.Errorf("%s ended with %s after SIGTERM, want exit status 0", c.name, c.cmd.ProcessState)
		}
	case <-time.After(within):
		c.t.Errorf("%s did not stop within %s of SIGTERM", c.name, within)
		c.kill()
	}
}

// output is what this process has logged so far.
func (c *child) output() []byte {
	c.t.Helper()
	data, err := os.ReadFile(c.logPath)
	if err != nil {
		c.t.Fatal(err)
	}
	return data[c.logFrom:]
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
