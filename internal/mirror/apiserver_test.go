package mirror_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"oidc-provider/internal/mirror"
)

// A cluster is a kube-apiserver that has nothing but its two documents, behind
// a path as some proxies have it.
type cluster struct {
	*httptest.Server
	dir string

	mu     sync.Mutex
	issuer string
	token  string // that it accepts
	asked  []string
	// instead answers a request for that path.
	instead map[string]http.HandlerFunc
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{dir: t.TempDir(), issuer: issuer, token: "good", instead: make(map[string]http.HandlerFunc)}
	answers := map[string]string{
		"/prefix/.well-known/openid-configuration": `{"issuer":"ISSUER","jwks_uri":"https://127.0.0.1:1/jwks"}`,
		"/prefix/openid/v1/jwks":                   string(marshal(t, newKey(t, "a"))),
	}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		want, issuer, instead := "Bearer "+c.token, c.issuer, c.instead[r.URL.Path]
		c.asked = append(c.asked, r.URL.Path)
		c.mu.Unlock()
		switch answer, ok := answers[r.URL.Path]; {
		case r.Header.Get("Authorization") != want:
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
		case instead != nil:
			instead(w, r)
		case !ok:
			http.NotFound(w, r)
		case r.UserAgent() != "oidc-provider":
			t.Errorf("asks as %q", r.UserAgent())
		default:
			fmt.Fprint(w, strings.Replace(answer, "ISSUER", issuer, 1))
		}
	}))
	c.EnableHTTP2 = true
	c.Config.ErrorLog = log.New(io.Discard, "", 0)
	c.StartTLS()
	t.Cleanup(func() {
		c.CloseClientConnections()
		c.Close()
	})
	return c
}

func (c *cluster) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// kubeconfig writes one that names the server at url, with a token from a file.
func (c *cluster) kubeconfig(t *testing.T, url string) string {
	t.Helper()
	path := filepath.Join(c.dir, "kubeconfig")
	write(t, path, fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: it
clusters: [{name: it, cluster: {server: "%s/prefix", certificate-authority-data: %s}}]
users: [{name: me, user: {tokenFile: "%s"}}]
contexts: [{name: it, context: {cluster: it, user: me}}]
`, url, base64.StdEncoding.EncodeToString([]byte(read(t, caOf(t, c.Server)))), c.tokenFile()))
	return path
}

func (c *cluster) tokenFile() string { return filepath.Join(c.dir, "token") }

func (c *cluster) source(t *testing.T) mirror.Source {
	t.Helper()
	write(t, c.tokenFile(), "good\n")
	s, err := mirror.NewAPIServer(c.kubeconfig(t, c.URL), "", issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAPIServer(t *testing.T) {
	c := newCluster(t)
	s := c.source(t)
	if want := "kube-apiserver of " + filepath.Join(c.dir, "kubeconfig"); s.String() != want {
		t.Errorf("goes by the name of %s, want %s", s, want)
	}
	for range 2 {
		fetch(t, s, []string{"a"}, "")
	}
	if s.String() != "kube-apiserver "+c.URL {
		t.Errorf("goes by the name of %s", s)
	}
	c.set(func() {
		if got := strings.Join(c.asked, " "); got != "/prefix/.well-known/openid-configuration /prefix/openid/v1/jwks /prefix/.well-known/openid-configuration /prefix/openid/v1/jwks" {
			t.Errorf("asks for %s", got)
		}
		c.issuer = issuer + "/"
	})
	fetch(t, s, nil, fmt.Sprintf("its issuer is %q, not %q (hint: ", issuer+"/", issuer))
	if _, err := mirror.NewAPIServer("", "", "", nil); err == nil {
		t.Error("it takes any issuer")
	}
}

func TestAPIServerRefuses(t *testing.T) {
	c := newCluster(t)
	s := c.source(t)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, "secret", code) }
	}
	const metadata, keys = "/prefix/.well-known/openid-configuration", "/prefix/openid/v1/jwks"
	try := func(path, want string, answer http.HandlerFunc) {
		t.Helper()
		c.set(func() { clear(c.instead); c.instead[path] = answer })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if want == "no answer in time" {
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		}
		_, _, err := s.Fetch(ctx)
		cancel()
		if err == nil || !strings.Contains(text(err), want) || strings.Contains(text(err), "secret") ||
			!strings.Contains(err.Error(), strings.TrimPrefix(path, "/prefix")) {
			t.Errorf("%s: got %v, want %q in it", path, err, want)
		}
		c.set(func() { clear(c.instead) })
		fetch(t, s, []string{"a"}, "")
	}
	for _, path := range []string{metadata, keys} {
		try(path, "bind the ClusterRole system:service-account-issuer-discovery", status(http.StatusForbidden))
		try(path, "system:service-account-issuer-discovery", status(http.StatusUnauthorized))
		try(path, "is an https URL", status(http.StatusNotFound))
		for want, answer := range badAnswers {
			if path == metadata && (want == "HTML" || want == "more than 1000 keys" || want == `the member "d"`) {
				continue
			}
			try(path, want, answer)
		}
	}
	try(metadata, "not a discovery document", badAnswers["HTML"])
	try(metadata, "not a discovery document", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{}`) })
}

// Credentials and addresses may be replaced at any time.
func TestAPIServerIsFoundAgain(t *testing.T) {
	c := newCluster(t)
	s := c.source(t)
	fetch(t, s, []string{"a"}, "")
	c.set(func() { c.token = "next" })
	fetch(t, s, nil, "does not accept the credentials")
	write(t, c.tokenFile(), "next")
	fetch(t, s, []string{"a"}, "")

	path := filepath.Join(c.dir, "kubeconfig")
	other := newCluster(t)
	other.set(func() { other.token = "next" })
	config := strings.Replace(read(t, other.kubeconfig(t, other.URL)), other.tokenFile(), c.tokenFile(), 1)
	c.CloseClientConnections()
	c.Close()
	write(t, path, config)
	fetch(t, s, nil, "/.well-known/openid-configuration: ") // one poll more
	fetch(t, s, []string{"a"}, "")
	if s.String() != "kube-apiserver "+other.URL {
		t.Errorf("goes by the name of %s", s)
	}

	other.set(func() { other.token = "none" })
	fetch(t, s, nil, "credentials")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fetch(t, s, nil, "reading the kubeconfig")
	other.set(func() { other.token = "next" })
	write(t, path, config)
	fetch(t, s, []string{"a"}, "")
}

// An API server that is gone without a word is given up in time, and its
// connection with it.
func TestAPIServerThatIsGone(t *testing.T) {
	c := newCluster(t)
	p := newProxy(t, c.Listener.Addr().String())
	write(t, c.tokenFile(), "good")
	s, err := mirror.NewAPIServer(c.kubeconfig(t, "https://"+p.Addr().String()), "", issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	fetch(t, s, []string{"a"}, "")
	fetch(t, s, []string{"a"}, "")
	if n := p.swallow(); n != 1 {
		t.Errorf("%d connections for two fetches", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := s.Fetch(ctx); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("got %v", err)
	}
	fetch(t, s, []string{"a"}, "") // over a new one
}

// A proxy passes on what it gets, until it swallows it.
type proxy struct {
	net.Listener
	mu    sync.Mutex
	conns []*atomic.Bool // whether each is swallowed
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{Listener: l}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			swallows := new(atomic.Bool)
			p.mu.Lock()
			p.conns = append(p.conns, swallows)
			p.mu.Unlock()
			go relay(out, in, swallows)
			go relay(in, out, swallows)
		}
	}()
	return p
}

// swallow makes all connections that are there swallow everything.
func (p *proxy) swallow() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, swallows := range p.conns {
		swallows.Store(true)
	}
	return len(p.conns)
}

func relay(to, from net.Conn, swallows *atomic.Bool) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			to.Close()
			return
		}
		if !swallows.Load() {
			_, _ = to.Write(buf[:n])
		}
	}
}

// Hours of failing polls leave nothing behind.
func TestAPIServerLeavesNothing(t *testing.T) {
	c := newCluster(t)
	s := c.source(t)
	c.set(func() { c.issuer = "https://other.example.test" })
	fetch(t, s, nil, "its issuer is")
	before := goroutines()
	for range 50 {
		fetch(t, s, nil, "its issuer is")
	}
	for range 100 {
		if goroutines() < before+10 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", goroutines(), before)
}

func goroutines() int {
	runtime.GC()
	return runtime.NumGoroutine()
}
