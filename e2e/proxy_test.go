package e2e

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A proxy is the network between a client and a server, which can fail.
type proxy struct {
	t      testing.TB
	listen string // the address for clients
	server string // where the connections lead to

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	pipes    map[*pipe]bool
	silent   bool        // new pipes lead nowhere
	paused   bool        // bytes wait
	resumed  sync.Cond   // on mu: a pipe was closed, or paused is no longer
	landed   func() bool // if set, the first answer after it is true gets lost
	running  sync.WaitGroup
}

// A pipe is one connection through the proxy.
type pipe struct {
	client, server net.Conn
	dead           atomic.Bool // every byte vanishes, for good
	closed         bool        // guarded by the proxy's mu
}

func (l *lab) startProxy(t testing.TB, server string) *proxy {
	t.Helper()
	p := &proxy{t: t, listen: address(l.freePort()), server: server, pipes: make(map[*pipe]bool)}
	p.resumed.L = &p.mu
	p.accept()
	t.Cleanup(func() {
		p.refuse()
		p.running.Wait()
	})
	return p
}

// accept lets new connections and bytes that wait through. Connections from a
// silence stay dead.
func (p *proxy) accept() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent, p.paused = false, false
	p.resumed.Broadcast()
	if p.listener != nil {
		return
	}
	listener, err := net.Listen("tcp", p.listen)
	if err != nil {
		p.t.Errorf("the proxy cannot listen again: %v", err)
		return
	}
	p.listener = listener
	p.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.connect(listener, conn) })
		}
	})
}

// refuse ends all connections and allows no new ones, as if the server's
// process had died.
func (p *proxy) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	p.hangUp()
}

// hangUp ends all connections. mu is held.
func (p *proxy) hangUp() {
	for pipe := range p.pipes {
		pipe.closed = true
		pipe.close()
	}
	clear(p.pipes)
	p.resumed.Broadcast()
}

// silence lets every byte vanish, as a cable does that was pulled out: nobody
// is told. What was connected or connects meanwhile is never heard of again.
func (p *proxy) silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
	for pipe := range p.pipes {
		pipe.dead.Store(true)
	}
}

// pause keeps every byte back until the line is open again, as a server does
// that was stopped, or TCP over a network that drops.
func (p *proxy) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = true
}

func (p *proxy) await(pipe *pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.paused && !pipe.closed {
		p.resumed.Wait()
	}
}

// loseAnswer ends all connections instead of passing on the first answer for
// which landed is true. It is asked before each.
func (p *proxy) loseAnswer(landed func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.landed = landed
}

func (p *proxy) loses() bool {
	p.mu.Lock()
	landed := p.landed
	p.mu.Unlock()
	if landed == nil || !landed() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.landed = nil
	p.hangUp()
	return true
}

func (p *proxy) connect(from net.Listener, client net.Conn) {
	server, err := net.DialTimeout("tcp", p.server, 10*time.Second)
	if err != nil {
		client.Close()
		return
	}
	pipe := &pipe{client: client, server: server}
	p.mu.Lock()
	if from != p.listener { // it was cut meanwhile
		p.mu.Unlock()
		pipe.close()
		return
	}
	pipe.dead.Store(p.silent)
	p.pipes[pipe] = true
	p.mu.Unlock()

	var toServer sync.WaitGroup
	toServer.Go(func() { p.copy(pipe, server, client, func() bool { return false }) })
	p.copy(pipe, client, server, p.loses)
	toServer.Wait()
	p.mu.Lock()
	delete(p.pipes, pipe)
	p.mu.Unlock()
}

func (p *pipe) close() {
	for _, conn := range []net.Conn{p.client, p.server} {
		// With bytes left unsent a connection would linger, and the other
		// side get them after the cut.
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// copy ends both connections when one ends, unless nobody may hear of it.
func (p *proxy) copy(pipe *pipe, to, from net.Conn, loses func() bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.await(pipe)
		if pipe.dead.Load() {
			if err != nil {
				from.Close()
				return
			}
			continue
		}
		if n > 0 && err == nil && !loses() {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			pipe.close()
			return
		}
	}
}
