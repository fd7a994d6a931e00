package main

import (
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// A server that waits for its store ends like any other, whatever it is about.
func TestStopWhileWaiting(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	p := &process{t: t, dir: t.TempDir()}
	for _, addr := range []*string{&p.addr, &p.adminAddr} {
		var err error
		if *addr, err = freeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	p.cmd = p.command("serve", "--store", "etcd://"+silent.Addr().String(), "--issuer", "http://"+p.addr, "--listen", p.addr,
		"--admin-listen", p.adminAddr, "--shutdown-delay", "0s")
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	p.done = make(chan error, 1)
	go func() { p.done <- p.cmd.Wait() }()
	p.eventually("it is alive", func() bool { return get("http://"+p.adminAddr+"/livez") == http.StatusOK })
	time.Sleep(100 * time.Millisecond) // in the middle of the first read, which takes seconds
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.wait()
}
