package secret_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/store/secret"
	"oidc-provider/rotation"
)

func TestTimeouts(t *testing.T) {
	for method, want := range map[string]time.Duration{"GET": 3 * time.Second, "PUT": 5 * time.Second} {
		t.Run(method, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
				v := swap(t, s, "one", "")
				a.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					return r.Method == method && stuck(w, r)
				}, nil)
				began := time.Now()
				err := s.Swap(t.Context(), []byte("two"), v)
				check(t, "Swap", err, true, "no answer in time")
				if took := time.Since(began); took != want {
					t.Errorf("took %v", took)
				}

				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began = time.Now()
				check(t, "Swap in 1s", s.Swap(ctx, []byte("two"), v), true)
				if took := time.Since(began); took != time.Second {
					t.Errorf("took %v", took)
				}
				a.intercept(nil, nil)
				swap(t, s, "two", v)
			})
		})
	}
}

// An answer that starts and does not end also times out.
func TestTimeoutWithinAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			fmt.Fprint(w, `{"kind":"Secret",`)
			w.(http.Flusher).Flush()
			return stuck(w, r)
		}, nil)
		began := time.Now()
		_, _, err := s.Load(t.Context())
		check(t, "Load", err, true, "no answer in time")
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A dead connection is closed after the first request that gets no answer.
func TestDeadConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, _ *secret.Store) {
		dial, dials, dead := a.cfg.Dial, 0, make(chan struct{})
		a.cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			conn, err := dial(ctx, network, address)
			if dials == 1 && err == nil {
				conn = &deafConn{conn, dead}
			}
			return conn, err
		}
		s := a.store(t)
		load(t, s)
		close(dead)
		_, _, err := s.Load(t.Context())
		check(t, "Load", err, true)
		load(t, s)
		if dials != 2 {
			t.Errorf("%d connections", dials)
		}
	})
}

// During a network outage no connection completes, not even later. After the outage, a
// read must not wait for such a connection.
func TestSilentNetwork(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, _ *secret.Store) {
		dial, away := a.cfg.Dial, make(chan struct{})
		a.cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			select {
			case <-away:
				return dial(ctx, network, address)
			default:
				time.Sleep(30 * time.Second)
				return nil, errors.New("lost")
			}
		}
		s := a.store(t)
		began := time.Now()
		_, _, err := s.Load(t.Context())
		check(t, "Load", err, true)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		began = time.Now()
		time.AfterFunc(1500*time.Millisecond, func() { close(away) })
		load(t, s)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %v, although the network worked after 1.5s", took)
		}
		time.Sleep(time.Minute) // the lost connections end
	})
}

// Slow credentials, a slow connection and a slow answer all work.
func TestSlow(t *testing.T) {
	const slow = 2500 * time.Millisecond
	inBubble(t, func(t *testing.T, a *apiServer, _ *secret.Store) {
		dial := a.cfg.Dial
		a.cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			time.Sleep(slow)
			return dial(ctx, network, address)
		}
		s := a.store(t)
		load(t, s)
		a.intercept(func(http.ResponseWriter, *http.Request) bool { time.Sleep(slow); return false }, nil)
		load(t, s)
		a.intercept(nil, nil)
		a.cfg.Dial = dial
		a.cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { return slowly{rt, slow} })
		load(t, a.store(t))
		time.Sleep(time.Minute)
	})
}

type slowly struct {
	http.RoundTripper
	time.Duration
}

func (s slowly) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(s.Duration)
	return s.RoundTripper.RoundTrip(r)
}

// If all clients reconnect to a server at once, a handshake may take longer than a read
// waits. The next read uses the connection.
func TestSlowHandshake(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, _ *secret.Store) {
		l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &httptest.Server{Listener: l, Config: &http.Server{Handler: a}}
		server.StartTLS()
		defer server.Close()
		defer server.CloseClientConnections()
		a.cfg = &rest.Config{Host: "https://api.example:6443", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
		a.cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := l.dial(ctx, network, address)
			return &slowConn{Conn: conn}, err
		}
		s := a.store(t)
		_, _, err := s.Load(t.Context())
		check(t, "Load", err, true)
		load(t, s)
		server.CloseClientConnections()
		time.Sleep(time.Minute)
	})
}

// The first Read of a slowConn is slow.
type slowConn struct {
	net.Conn
	once sync.Once
}

func (c *slowConn) Read(b []byte) (int, error) {
	c.once.Do(func() { time.Sleep(4500 * time.Millisecond) })
	return c.Conn.Read(b)
}

// Writes to a deafConn are lost after dead is closed.
type deafConn struct {
	net.Conn
	dead chan struct{}
}

func (c *deafConn) Write(b []byte) (int, error) {
	select {
	case <-c.dead:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	s, err := secret.New(&rest.Config{Host: "https://" + host}, "keys", "ring")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Load(t.Context())
	doing := "reading Secret keys/ring at the API server " + host
	if !errors.Is(err, rotation.ErrUnavailable) || !strings.Contains(err.Error(), doing) {
		t.Errorf("Load: %v", err)
	}
	if strings.Contains(err.Error(), "https://") {
		t.Errorf("Load repeats the URL: %v", err)
	}
	if err := s.Swap(t.Context(), nil, ""); !errors.Is(err, rotation.ErrUnavailable) {
		t.Errorf("Swap: %v", err)
	}
}

// An unknown CA stays unknown: waiting does not help.
func TestForeignCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	s, err := secret.New(&rest.Config{Host: server.URL}, "keys", "ring")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Load(t.Context())
	if err == nil || errors.Is(err, rotation.ErrUnavailable) ||
		!strings.Contains(hint.Of(err), "the kubeconfig needs the CA") {
		t.Errorf("got %v", err)
	}
}
