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
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/rest"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/kube"
	"oidc-provider/internal/store/secret"
	"oidc-provider/rotation"
)

// check says what is wrong with err, of a request that failed.
func check(t *testing.T, doing string, err error, unavailable bool, want ...string) {
	t.Helper()
	if err == nil || errors.Is(err, rotation.ErrConflict) {
		t.Fatalf("%s: got %v", doing, err)
	}
	if errors.Is(err, rotation.ErrUnavailable) != unavailable {
		t.Errorf("%s: ErrUnavailable is wanted: %v, got %v", doing, unavailable, err)
	}
	if hint.Of(err) == "" {
		t.Errorf("%s: no hint for %v", doing, err)
	}
	for _, want := range append(want, "keys/ring", "api.example:6443") {
		if text := hint.Text(err, hint.Field); !strings.Contains(text, want) {
			t.Errorf("%s: got %q, want %q in it", doing, text, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	terminating := apierrors.NewForbidden(secrets, "ring", errors.New("being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	tooLong := apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Secret").GroupKind(), "ring",
		field.ErrorList{field.TooLong(field.NewPath("data"), "", 1<<20)})
	for name, tt := range map[string]struct {
		status      *apierrors.StatusError
		unavailable bool
		want        string
	}{
		"401":         {apierrors.NewUnauthorized("Unauthorized"), false, "credentials"},
		"403":         {apierrors.NewForbidden(secrets, "ring", errors.New("no")), false, "oidc-provider keys rbac --store secret:keys/ring"},
		"terminating": {terminating, false, "the namespace is being deleted"},
		"413":         {apierrors.NewRequestEntityTooLargeError("limit is 3145728"), false, "at most 1024 KiB"},
		"422":         {tooLong, false, "at most 1024 KiB"},
		"429":         {apierrors.NewTooManyRequests("busy", 1), true, "busy"},
		"500":         {apierrors.NewInternalError(errors.New("etcd is away")), true, "etcd is away"},
		"503":         {apierrors.NewServiceUnavailable("starting"), true, "starting"},
		"504":         {apierrors.NewTimeoutError("slow", 1), true, "slow"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
				began := time.Now()
				v := swap(t, s, "one", "")
				refuse := func(method string) func(http.ResponseWriter, *http.Request) bool {
					return func(w http.ResponseWriter, r *http.Request) bool {
						if r.Method == method {
							w.Header().Set("Retry-After", "1")
							answer(w, nil, tt.status)
						}
						return r.Method == method
					}
				}
				a.intercept(refuse("GET"), nil)
				_, _, err := s.Load(t.Context())
				check(t, "Load", err, tt.unavailable, tt.want, "reading Secret")
				check(t, "Swap, reading", s.Swap(t.Context(), nil, v), tt.unavailable, tt.want, "reading Secret")
				a.intercept(refuse("PUT"), nil)
				check(t, "Swap", s.Swap(t.Context(), nil, v), tt.unavailable, tt.want, "writing Secret")
				a.put(nil)
				a.intercept(refuse("POST"), nil)
				check(t, "Swap, creating", s.Swap(t.Context(), nil, ""), tt.unavailable, tt.want, "creating Secret")
				if took := time.Since(began); took > 0 {
					t.Errorf("it waited for %v", took)
				}
			})
		})
	}
}

// What a proxy says in place of the API server is no word about the Secret,
// least of all that there is none.
func TestForeignAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		code        int
		contentType string
		body        string
		unavailable bool
	}{
		"404":          {404, "text/plain", "404 page not found", false},
		"404 of API":   {404, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`, false},
		"302":          {302, "text/html", "<a>", false},
		"502":          {502, "text/html", "<html>", true},
		"page":         {200, "text/html", "<html>", false},
		"nothing":      {200, "application/json", "", false},
		"empty":        {200, "application/json", "{}", false},
		"other object": {200, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Success"}`, false},
		"no UID":       {200, "application/json", `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"ring","namespace":"keys","resourceVersion":"1"}}`, false},
		"other Secret": {200, "application/json", `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"a","namespace":"keys","uid":"u","resourceVersion":"1"}}`, false},
		"other kind":   {200, "application/json", `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"ring"},"data":{"ring.json":"c2VjcmV0"}}`, false},
		"other group":  {200, "application/json", `{"kind":"Secret","apiVersion":"v2","data":{"ring.json":"c2VjcmV0"}}`, false},
		"list":         {200, "application/json", `[{"data":{"ring.json":"c2VjcmV0"}}]`, false},
		"wrong type":   {200, "application/json", `{"kind":"Secret","apiVersion":"v1","data":["c2VjcmV0"]}`, false},
		"no base64":    {200, "application/json", `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"ring"},"data":{"ring.json":"!"}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
				a.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					w.Header().Set("Content-Type", tt.contentType)
					w.Header().Set("Location", "/")
					w.WriteHeader(tt.code)
					io.WriteString(w, tt.body)
					return true
				}, nil)
				_, _, err := s.Load(t.Context())
				check(t, "Load", err, tt.unavailable)
				for _, part := range []string{"<", "page", "c2VjcmV0", "secret"} {
					if strings.Contains(err.Error(), part) {
						t.Errorf("repeats the answer: %v", err)
					}
				}
				if err := s.Swap(t.Context(), []byte("one"), ""); err == nil || a.sent("POST") > 0 {
					t.Errorf("Swap: %v, sent %d", err, a.sent("POST"))
				}
			})
		})
	}
}

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

// An answer that does not come to its end comes too late as well.
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

// A connection through which nothing comes any more must not outlive the first
// request that gets no answer.
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

// While the network is away nothing can be connected to, and what was begun
// then never will be. Once it is back, a read must not wait for that.
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
			t.Errorf("took %v with a network that was back after 1.5s", took)
		}
		time.Sleep(time.Minute) // the lost ones end
	})
}

// What is slow is not given up for good: finding credentials, connecting, the
// answer.
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

// A server that all its clients come back to at once may take longer for a
// handshake than a read waits. The next one finds it done.
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

// The first thing that a slowConn reads comes late.
type slowConn struct {
	net.Conn
	once sync.Once
}

func (c *slowConn) Read(b []byte) (int, error) {
	c.once.Do(func() { time.Sleep(4500 * time.Millisecond) })
	return c.Conn.Read(b)
}

// What is written into a deafConn is lost once dead is closed.
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
	if !errors.Is(err, rotation.ErrUnavailable) || !strings.Contains(err.Error(), "reading Secret keys/ring at the API server "+host) {
		t.Errorf("Load: %v", err)
	}
	if strings.Contains(err.Error(), "https://") {
		t.Errorf("Load repeats the URL: %v", err)
	}
	if err := s.Swap(t.Context(), nil, ""); !errors.Is(err, rotation.ErrUnavailable) {
		t.Errorf("Swap: %v", err)
	}
}

// An unknown CA stays unknown: waiting is of no use.
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
	if err == nil || errors.Is(err, rotation.ErrUnavailable) || !strings.Contains(hint.Of(err), "the kubeconfig needs the CA") {
		t.Errorf("got %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		check(t, "alone", s.Swap(t.Context(), make([]byte, corev1.MaxSecretSize+1), ""), false, "at most 1024 KiB")
		a.put(&corev1.Secret{Data: map[string][]byte{"other": make([]byte, 1000)}})
		check(t, "with others", s.Swap(t.Context(), make([]byte, corev1.MaxSecretSize-999), ""), false, "at most 1024 KiB")
		if n := a.sent("PUT") + a.sent("POST"); n > 0 {
			t.Errorf("sent %d times", n)
		}
		if err := s.Swap(t.Context(), make([]byte, corev1.MaxSecretSize-1000), ""); err != nil {
			t.Error(err)
		}
	})
}

func TestImmutable(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.put(&corev1.Secret{Immutable: new(true), Data: map[string][]byte{"ring.json": []byte("one")}})
		_, v := load(t, s)
		wantConflict(t, s, "")
		check(t, "Swap", s.Swap(t.Context(), []byte("two"), v), false, "immutable")
	})
}

// An answer without what was sent is no success.
func TestChangedByWebhook(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.intercept(nil, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != "GET" {
				changed := a.get()
				changed.Data["ring.json"] = []byte("theirs")
				a.put(changed)
				answer(w, a.get(), nil)
			}
			return r.Method != "GET"
		})
		check(t, "Swap", s.Swap(t.Context(), []byte("one"), ""), false, "webhook")
	})
}

func TestNoNamespace(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, _ *secret.Store) {
		s, err := secret.New(a.cfg, "elsewhere", "ring")
		if err != nil {
			t.Fatal(err)
		}
		if _, v, err := s.Load(t.Context()); v != "" || err != nil {
			t.Errorf("Load: version %q, %v", v, err)
		}
		err = s.Swap(t.Context(), nil, "")
		if err == nil || !strings.Contains(hint.Text(err, hint.Field), "hint: create it with `kubectl create namespace elsewhere`") {
			t.Errorf("Swap: %v", err)
		}
	})
}

// client-go must not write to stderr by itself, whatever the server does.
func TestNothingOnStderr(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = w
	defer func() { os.Stderr = stderr }()
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Warning", `299 - "this API is old"`)
			if r.Method == "GET" {
				return false
			}
			w.Header().Set("Content-Length", "100") // and then nothing: a broken body
			fmt.Fprint(w, "{")
			return true
		}, nil)
		load(t, s)
		check(t, "Swap", s.Swap(t.Context(), nil, ""), true)
	})
	t.Setenv("KUBECONFIG", "/nonexistent/config")
	kube.Config("", "")
	w.Close()
	if got, _ := io.ReadAll(r); len(got) > 0 {
		t.Errorf("stderr: %s", got)
	}
}
