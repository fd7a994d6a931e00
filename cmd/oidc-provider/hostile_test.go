package main

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The listener survives what strangers do to it.
func TestHostileClients(t *testing.T) {
	p := serve(t, []string{"--algorithm", "ES256"})
	defer p.stop()

	t.Run("oversized headers", func(t *testing.T) {
		resp := p.send(t, "GET /openid/v1/jwks HTTP/1.1\r\nHost: x\r\nX-Big: "+strings.Repeat("a", 64<<10)+"\r\n\r\n")
		if !strings.HasPrefix(resp, "HTTP/1.1 431 ") {
			t.Errorf("answered with %.100q", resp)
		}
		p.mustAnswer("oversized headers")
	})
	t.Run("garbage", func(t *testing.T) {
		random := make([]byte, 4096)
		source := rand.NewChaCha8([32]byte{1})
		for range 100 {
			source.Read(random)
			p.send(t, string(random)+"\r\n\r\n")
		}
		for _, text := range []string{
			"\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01",
			"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			"POST /openid/v1/jwks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
			"GET /%00%ff%2f..%2f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		} {
			p.send(t, text)
		}
		p.mustAnswer("garbage")
	})
	t.Run("slowloris", func(t *testing.T) {
		const n = 500
		var closed sync.WaitGroup
		for range n {
			conn := p.dial(t)
			closed.Go(func() {
				defer conn.Close()
				// A header that never ends, a byte at a time.
				for _, b := range []byte("GET /openid/v1/jwks HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 100)) {
					if _, err := conn.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
				t.Error("a connection was kept for as long as its header took")
			})
		}
		time.Sleep(500 * time.Millisecond)
		p.mustAnswer("while slow clients hang on")
		closed.Wait()
		p.mustAnswer("after slow clients")
	})
	t.Run("idle", func(t *testing.T) {
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		n := min(10_000, int(min(limit.Max, 1<<20))-500)
		if n < 10_000 {
			t.Logf("only %d connections: this machine allows %d open files", n, limit.Max)
		}
		conns := make([]net.Conn, n)
		for i := range conns {
			conns[i] = p.dial(t)
			defer conns[i].Close()
			if i%2 == 0 { // half of them have asked something before
				io.WriteString(conns[i], "GET /openid/v1/jwks HTTP/1.1\r\nHost: x\r\n\r\n")
			}
		}
		p.mustAnswer("with idle connections")
	})
	p.mustAnswer("at last")
}

func (p *process) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// send returns what is answered to text, as far as it comes.
func (p *process) send(t *testing.T, text string) string {
	t.Helper()
	conn := p.dial(t)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	io.WriteString(conn, text)
	conn.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(io.LimitReader(conn, 1<<16))
	return string(answer)
}

// A request that is under way when the end is announced gets its answer, and
// readiness goes before the documents do.
func TestGracefulShutdown(t *testing.T) {
	p := serve(t, []string{"--algorithm", "ES256"}, "--shutdown-delay", "1s")
	conn := p.dial(t)
	defer conn.Close()
	io.WriteString(conn, "GET /openid/v1/jwks HTTP/1.1\r\nHost: x\r\n") // not complete
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.eventually("not ready", func() bool { return get("http://"+p.adminAddr+"/readyz") == http.StatusServiceUnavailable })
	if code := get(p.issuer + "/openid/v1/jwks"); code != http.StatusOK {
		t.Errorf("not ready any more, and the documents answer %d already", code)
	}
	io.WriteString(conn, "\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the request under way: %v, %v", resp, err)
	}
	p.wait()
	if code := get(p.issuer + "/openid/v1/jwks"); code != 0 {
		t.Errorf("stopped, and the documents answer %d", code)
	}
	if !strings.Contains(p.output(), "msg=stopped") {
		t.Errorf("did not stop in order:\n%s", p.output())
	}
}
