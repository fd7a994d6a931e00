package mirror_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oidc-provider/internal/mirror"
)

func caOf(t *testing.T, server *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.crt")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	return path
}

// newTLSServer answers as the handler that was stored last.
func newTLSServer(t *testing.T) (server *httptest.Server, handler *atomic.Pointer[http.HandlerFunc]) {
	handler = new(atomic.Pointer[http.HandlerFunc])
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*handler.Load())(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server, handler
}

func newURL(t *testing.T, url, caFile string) *mirror.URL {
	t.Helper()
	s, err := mirror.NewURL(url, caFile)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hang begins an answer and does not end it.
func hang(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte(`{"keys":[`))
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// answers that are no key set, by what is said of them.
var badAnswers = map[string]http.HandlerFunc{
	"more than 1000 keys": func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"keys":[{}` + strings.Repeat(`,{}`, 60_000) + `]}`))
	},
	"HTML": func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("<html>secret")) },
	"too large: more than 1 MiB": func(w http.ResponseWriter, r *http.Request) { // and without end
		_, err := w.Write([]byte(`{"issuer":"` + issuer + `","keys":[]`))
		for err == nil {
			_, err = w.Write(bytes.Repeat([]byte(" "), 1<<16))
		}
	},
	`it redirects to "other.example.test" (HTTP status 302), which is not followed`: func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://other.example.test/secret?secret", http.StatusFound)
	},
	"HTTP status 500": func(w http.ResponseWriter, r *http.Request) { http.Error(w, "secret", 500) },
	"HTTP status 204": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) },
	"HTTP status 404": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
	`the member "d"`: func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"issuer":"` + issuer + `","keys":[{"kty":"new","d":"secret"}]}`))
	},
	"no answer in time": hang,
}

func TestURL(t *testing.T) {
	server, handler := newTLSServer(t)
	key := newKey(t, "a")
	good := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "oidc-provider" || r.URL.RawQuery != "secret" || r.Method != "GET" || r.ProtoMajor != 2 {
			t.Errorf("asks %s %s as %q over %s", r.Method, r.URL, r.UserAgent(), r.Proto)
		}
		_, _ = w.Write(append([]byte(`{"keys":[{"kty":"new"},`), marshal(t, key)[len(`{"keys":[`):]...))
	})
	s := newURL(t, server.URL+"/keys?secret#part", caOf(t, server))
	if s.String() != server.URL+"/keys" {
		t.Errorf("goes by the name of %s", s)
	}
	handler.Store(&good)
	for range 2 {
		if skipped := fetch(t, s, []string{"a"}, ""); len(skipped) != 1 {
			t.Errorf("skipped %v", skipped)
		}
	}
	for want, bad := range badAnswers {
		handler.Store(&bad)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if want == "no answer in time" {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		_, _, err := s.Fetch(ctx)
		cancel()
		if err == nil || !strings.Contains(text(err), want) || strings.Contains(text(err), "secret") {
			t.Errorf("got %v, want %q in it", err, want)
		}
		handler.Store(&good)
		fetch(t, s, []string{"a"}, "")
	}
}

func TestURLOfServerThatIsAway(t *testing.T) {
	server := httptest.NewServer(nil)
	s := newURL(t, server.URL, "")
	server.Close()
	var last string
	for range 3 { // it says the same each time
		_, _, err := s.Fetch(t.Context())
		if err == nil || !strings.Contains(text(err), "(hint: ") || last != "" && text(err) != last {
			t.Errorf("got %v, before %s", err, last)
		}
		last = text(err)
	}
}

// The error of a connection that is cut has the port at this end in it, and the
// URL.
func TestURLOfConnectionThatIsCut(t *testing.T) {
	for want, linger := range map[string]int{"reset by peer (hint: ": 0, "EOF": -1} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(linger)
			conn.Close()
		}))
		s := newURL(t, server.URL+"?secret", "")
		messages := make(map[string]bool)
		for range 5 {
			_, _, err := s.Fetch(t.Context())
			messages[text(err)] = true
			if !strings.Contains(text(err), want) || strings.Contains(text(err), "secret") {
				t.Errorf("got %v, want %q in it", err, want)
			}
		}
		if len(messages) != 1 {
			t.Errorf("different messages: %v", messages)
		}
		server.Close()
	}
}

func TestURLReadsTheCAAgain(t *testing.T) {
	server, handler := newTLSServer(t)
	good := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(marshal(t, newKey(t, "a"))) })
	handler.Store(&good)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	s := newURL(t, server.URL, ca)
	fetch(t, s, nil, "reading CA certificates")
	// A pipe would block.
	fetch(t, newURL(t, server.URL, "/dev/null"), nil, "not a regular file")
	write(t, ca, "no PEM")
	fetch(t, s, nil, "no certificate in PEM")
	write(t, ca, testKey(t, "rsa-certificate.pem"))
	fetch(t, s, nil, "(hint: trust the CA that signed")
	write(t, ca, read(t, caOf(t, server)))
	fetch(t, s, []string{"a"}, "")
	fetch(t, newURL(t, server.URL, ""), nil, "(hint: trust the CA that signed")
}

func TestNewURLRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "oidc.example.test/jwks", "https:///jwks", "https:jwks", "http://oidc.example.test/jwks", "http://10.0.0.1/jwks",
		"ftp://oidc.example.test/jwks", "https://me:secret@oidc.example.test/jwks", "http://localhost.example.test", "https://a b/",
		"https://me:secret@oidc.example.test:port/",
	} {
		if _, err := mirror.NewURL(bad, ""); err == nil || !strings.Contains(text(err), "(hint: ") || strings.Contains(text(err), "secret") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	for _, good := range []string{"https://oidc.example.test/jwks", "http://localhost:8080/x", "http://127.0.0.1/x", "http://[::1]:80/"} {
		newURL(t, good, "")
	}
}
