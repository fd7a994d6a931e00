package check_test

import (
	"bytes"
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
)

// heard is everything that the servers of all tests were told: a stream for
// each connection, and another for what is inside its TLS.
var heard record

type record struct {
	mu      sync.Mutex
	streams []*bytes.Buffer
}

// stream returns what adds to a new stream.
func (r *record) stream() func([]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := new(bytes.Buffer)
	r.streams = append(r.streams, b)
	return func(data []byte) {
		r.mu.Lock()
		defer r.mu.Unlock()
		b.Write(data)
	}
}

func (r *record) has(text []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.streams {
		if bytes.Contains(b.Bytes(), text) {
			return true
		}
	}
	return false
}

// hear records a request as it stands in HTTP/1.1, whichever it came in.
func hear(req *http.Request) {
	if text, err := httputil.DumpRequest(req, true); err == nil {
		heard.stream()(text)
	}
}

// A listeningConn records what is read from it.
type listeningConn struct {
	net.Conn
	note func([]byte)
}

func listening(c net.Conn) net.Conn { return listeningConn{c, heard.stream()} }

func (c listeningConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.note(p[:n])
	return n, err
}

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return listening(c), nil
}

// neverSent fails t at its end if a server has heard of a token, of a part of
// it, or of what is in that part.
func neverSent(t testing.TB, token string) {
	t.Helper()
	for _, part := range append(strings.Split(token, "."), token) {
		plain, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			plain = []byte(part)
		}
		t.Cleanup(func() {
			if len(part) >= 8 && (heard.has([]byte(part)) || heard.has(plain)) {
				t.Errorf("a server was told %.100q, which is of the token", part)
			}
		})
	}
}
