package web_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"oidc-provider/web"
)

// A pipeListener accepts connections in memory, with addresses of choice.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

type pipeConn struct {
	net.Conn
	from net.Addr
}

func (c pipeConn) RemoteAddr() net.Addr { return c.from }

// A limited is a server with limits, inside a bubble of synctest.
type limited struct {
	t       *testing.T
	l       *pipeListener
	metrics *prometheus.Registry
}

func serveLimited(t *testing.T, limits web.Limits) *limited {
	s := &limited{t, &pipeListener{make(chan net.Conn), make(chan struct{})}, prometheus.NewRegistry()}
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 100_000)) })
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() {
		served <- web.Serve(ctx, web.ServeConfig{Listener: s.l, Handler: h, Limits: limits, Metrics: s.metrics,
			Log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// open connects from address, sends text, and reads the whole answer if it is a
// request.
func (s *limited) open(address, text string) net.Conn {
	s.t.Helper()
	ip := net.ParseIP(address)
	if ip == nil {
		s.t.Fatalf("no address: %q", address)
	}
	client, server := net.Pipe()
	s.t.Cleanup(func() { client.Close() })
	s.l.conns <- pipeConn{server, &net.TCPAddr{IP: ip, Port: 1}}
	io.WriteString(client, text)
	if text == request {
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if err != nil {
			s.t.Fatalf("no answer: %v", err)
		}
	}
	synctest.Wait()
	time.Sleep(time.Millisecond)
	return client
}

// isOpen reports whether the server has not closed conn.
func isOpen(conn net.Conn) bool {
	conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	for {
		if _, err := conn.Read(make([]byte, 1<<16)); err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

func TestLimits(t *testing.T) {
	type step struct{ address, text string }
	const header, unread = "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: y\r\n\r\n"
	a, b, c := "192.0.2.1", "192.0.2.2", "2001:db8::1"
	for _, tt := range []struct {
		name   string
		limits web.Limits
		steps  []step
		open   string // + for each connection that is open at the end, - for others
		closed string // limit that was reached
	}{
		{"below", web.Limits{Connections: 3}, []step{{a, request}, {a, ""}, {b, request}}, "+++", ""},
		{"the oldest idle one goes", web.Limits{Connections: 3},
			[]step{{a, request}, {b, request}, {a, request}, {b, request}, {a, request}}, "--+++", "connections"},
		{"one that has sent nothing goes", web.Limits{Connections: 2}, []step{{a, ""}, {b, request}, {a, request}}, "-++",
			"connections"},
		{"a new one is always served", web.Limits{Connections: 1}, []step{{a, ""}, {a, ""}, {b, request}}, "--+",
			"connections"},
		{"one address pushes out its own", web.Limits{Connections: 4, ConnectionsPerAddress: 2},
			[]step{{b, request}, {a, request}, {a, request}, {a, request}, {a, request}}, "+--++", "connections_per_address"},
		{"a network of IPv6 is one address", web.Limits{Connections: 4, ConnectionsPerAddress: 1},
			[]step{{c, request}, {"2001:db8::ffff:2", request}, {"2001:db8:0:1::1", request}}, "-++", "connections_per_address"},
		{"an address of IPv4 in IPv6 is the same", web.Limits{Connections: 4, ConnectionsPerAddress: 1},
			[]step{{a, request}, {"::ffff:" + a, request}}, "-+", "connections_per_address"},
		{"no limit for an address", web.Limits{Connections: 4}, []step{{a, ""}, {a, ""}, {a, ""}, {a, ""}}, "++++", ""},
		{"a slow header does not make it younger", web.Limits{Connections: 2},
			[]step{{a, header}, {a, request}, {b, request}}, "-++", "connections"},
		{"an answer that is not read goes", web.Limits{Connections: 8},
			[]step{{a, unread}, {a, unread}, {b, request}, {a, unread}}, "-+++", "active"},
		{"one answer that is not read may stay", web.Limits{Connections: 4}, []step{{a, unread}, {b, request}, {a, request}},
			"+++", ""},
		{"an active one goes if it is the oldest", web.Limits{Connections: 2},
			[]step{{a, unread}, {b, request}, {b, request}}, "-++", "connections"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serveLimited(t, tt.limits)
				var conns []net.Conn
				for _, step := range tt.steps {
					conns = append(conns, s.open(step.address, step.text))
				}
				open := ""
				for _, conn := range conns {
					if isOpen(conn) {
						open += "+"
					} else {
						open += "-"
					}
				}
				if open != tt.open {
					t.Errorf("open are %s, want %s", open, tt.open)
				}
				families, err := s.metrics.Gather()
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range families[0].Metric {
					if limit := m.Label[0].GetValue(); (m.Counter.GetValue() > 0) != (limit == tt.closed) {
						t.Errorf("closed for %s: %v", limit, m.Counter.GetValue())
					}
				}
			})
		})
	}
}

// How long a connection stays open depends on what it does and how many there are.
func TestIdleTimes(t *testing.T) {
	const address = "192.0.2.1"
	for _, tt := range []struct {
		name   string
		limit  int
		others int // idle connections
		text   string
		stays  time.Duration
	}{
		{"after a request", 100, 0, request, 65 * time.Second},
		{"up to half of the limit", 10, 4, request, 65 * time.Second},
		{"above half of the limit", 10, 5, request, 5 * time.Second},
		{"nothing sent", 100, 0, "", 5 * time.Second},
		{"half a header", 100, 0, "GET / HTTP/1.1\r\nHo", 5 * time.Second},
		{"an answer that is not read", 100, 0, "GET / HTTP/1.1\r\nHost: y\r\n\r\n", 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serveLimited(t, web.Limits{Connections: tt.limit})
				conn := s.open(address, tt.text)
				begin := time.Now()
				for range tt.others {
					s.open(address, request)
				}
				for time.Since(begin) < 2*time.Minute {
					time.Sleep(100 * time.Millisecond)
					if strings.HasSuffix(tt.text, "y\r\n\r\n") { // reading would change what is tested
						if _, err := conn.Write([]byte("x")); err != nil {
							break
						}
					} else if !isOpen(conn) {
						break
					}
				}
				// The limits are checked every second.
				if stayed := time.Since(begin); stayed < tt.stays-time.Second || stayed > tt.stays+2*time.Second {
					t.Errorf("it stayed open for %v, want %v", stayed, tt.stays)
				}
			})
		})
	}
}

func TestLimitsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serveLimited(t, web.Limits{Connections: 1})
		for range 4 {
			s.open("192.0.2.1", request)
		}
		err := testutil.GatherAndCompare(s.metrics, strings.NewReader(`
# HELP oidc_provider_connections_closed_total Connections that were closed to keep to a limit, by limit.
# TYPE oidc_provider_connections_closed_total counter
oidc_provider_connections_closed_total{limit="active"} 0
oidc_provider_connections_closed_total{limit="connections"} 3
oidc_provider_connections_closed_total{limit="connections_per_address"} 0
`))
		if err != nil {
			t.Error(err)
		}
	})
}
