package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// An etcdMember is one of three. Between them are proxies, so that one can be
// cut off from the others.
type etcdMember struct {
	lab  *lab
	name string
	args []string

	client  string // address
	peers   *peerProxy
	process *child
}

// startMembers returns when every member answers with a quorum.
func (l *lab) startMembers(n int) []*etcdMember {
	l.t.Helper()
	var members []*etcdMember
	var urls, initial []string
	for i := range n {
		m := &etcdMember{lab: l, name: fmt.Sprintf("member-%d", i), client: address(l.freePort())}
		peer := address(l.freePort())
		m.peers = l.startPeerProxy(peer)
		m.args = []string{"--name", m.name, "--dir", l.path(m.name), "--client", m.client, "--peer", peer}
		members = append(members, m)
		urls = append(urls, "http://"+m.peers.listen)
		initial = append(initial, m.name+"=http://"+m.peers.listen)
	}
	for _, m := range members {
		m.peers.urls = urls
		m.args = append(m.args, "--cluster", strings.Join(initial, ","))
		m.launch()
	}
	for _, m := range members {
		m.process.awaitReady(30*time.Second, m.ready)
	}
	return members
}

func (m *etcdMember) launch() { m.process = m.lab.startChild(m.name, etcdBinary, m.args...) }

// ready demands an answer that takes a quorum.
func (m *etcdMember) ready() error {
	return expectOK(&http.Client{Timeout: 2 * time.Second}, "http://"+m.client+"/health")
}

// isolate cuts member i off from all others, or joins it with them again.
func isolate(members []*etcdMember, i int, cut bool) {
	for _, m := range members {
		m.peers.cutOff(i, cut)
	}
}

// A peerProxy is where the other members connect to one. It tells them apart by
// the header that says under which URL the one that asks can be reached itself.
type peerProxy struct {
	listen, server string
	urls           []string // of all members

	mu      sync.Mutex
	cut     map[string]bool     // URLs, this member's own included
	links   map[net.Conn]string // the sides that were accepted, and whose they are
	running sync.WaitGroup
}

func (l *lab) startPeerProxy(server string) *peerProxy {
	l.t.Helper()
	p := &peerProxy{
		listen: address(l.freePort()), server: server,
		cut: make(map[string]bool), links: make(map[net.Conn]string),
	}
	listener, err := net.Listen("tcp", p.listen)
	if err != nil {
		l.t.Fatal(err)
	}
	p.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.connect(conn) })
		}
	})
	l.t.Cleanup(func() {
		listener.Close()
		p.closeLinks(func(string) bool { return true })
		p.running.Wait()
	})
	return p
}

// cutOff ends the connections of member i, and makes those that it opens useless.
func (p *peerProxy) cutOff(i int, cut bool) {
	p.mu.Lock()
	p.cut[p.urls[i]] = cut
	p.mu.Unlock()
	p.closeLinks(p.isCut)
}

func (p *peerProxy) isCut(from string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut[from] || p.cut["http://"+p.listen]
}

func (p *peerProxy) closeLinks(which func(from string) bool) {
	p.mu.Lock()
	links := make(map[net.Conn]string, len(p.links))
	for conn, from := range p.links {
		links[conn] = from
	}
	p.mu.Unlock()
	for conn, from := range links {
		if which(from) {
			conn.Close()
		}
	}
}

func (p *peerProxy) connect(client net.Conn) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", p.server, 5*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.links[client] = ""
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, client)
		p.mu.Unlock()
	}()
	p.running.Go(func() {
		io.Copy(client, server)
		client.Close()
	})
	buf := make([]byte, 32<<10)
	for {
		n, err := client.Read(buf)
		if err != nil || p.isCut(p.from(client, buf[:n])) {
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// from is whose connection this is: nobody's until its first request that says
// so, which all do that are not mere probes.
func (p *peerProxy) from(conn net.Conn, data []byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.links[conn] != "" {
		return p.links[conn]
	}
	if _, value, found := bytes.Cut(data, []byte("\r\nX-Peerurls: ")); found {
		value, _, _ := bytes.Cut(value, []byte("\r\n"))
		p.links[conn] = string(value)
	}
	return p.links[conn]
}

// TestIsolate checks the proxy: a member that is cut off has no quorum, and the
// others have one.
func TestIsolate(t *testing.T) {
	lab := newLab(t)
	members := lab.startMembers(3)
	for i, m := range members {
		isolate(members, i, true)
		eventually(t, m.name+" without a quorum", 10*time.Second, func() error {
			if err := m.ready(); err == nil {
				return fmt.Errorf("it answers")
			}
			return nil
		})
		for _, other := range members {
			if other != m {
				eventually(t, other.name+" with a quorum", 10*time.Second, other.ready)
			}
		}
		isolate(members, i, false)
		began := time.Now()
		eventually(t, m.name+" with a quorum again", 10*time.Second, m.ready)
		t.Logf("%s was back after %s", m.name, time.Since(began).Round(time.Millisecond))
	}
}
