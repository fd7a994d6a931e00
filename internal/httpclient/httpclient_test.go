package httpclient_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
	"oidc-provider/internal/input"
)

func get(t *testing.T, client *http.Client, address string) ([]byte, error) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	if strings.HasSuffix(u.Path, "/hang") {
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	}
	defer cancel()
	return httpclient.Get(ctx, client, u, 1<<10)
}

func TestGet(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "oidc-provider" || !strings.Contains(r.Header.Get("Accept"), "application/jwk-set+json") {
			t.Errorf("asks as %q for %q", r.UserAgent(), r.Header.Get("Accept"))
		}
		_, _ = io.WriteString(w, "{}")
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		for err := error(nil); err == nil; {
			_, err = w.Write(bytes.Repeat([]byte("s"), 1<<16))
		}
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://other.example.test/secret?secret", http.StatusFound)
	})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	client := httpclient.New(httpclient.Transport(nil))
	if data, err := get(t, client, server.URL+"/good?secret"); err != nil || string(data) != "{}" {
		t.Errorf("got %q, %v", data, err)
	}
	for _, tt := range []struct{ path, want, hint string }{
		{"/missing", "it answers with HTTP status 404 (Not Found)", ""},
		{"/redirect", `it redirects to "other.example.test" (HTTP status 302), which is not followed`, ""},
		{"/long", "reading the answer: too large: more than 1 KiB", ""},
		{"/hang", "reading the answer: no answer in time: context deadline exceeded", "is it reachable from here?"},
	} {
		_, err := get(t, client, server.URL+tt.path+"?secret")
		if err == nil || err.Error() != tt.want || hint.Of(err) != tt.hint {
			t.Errorf("%s: got %v (hint: %s), want %s (hint: %s)", tt.path, err, hint.Of(err), tt.want, tt.hint)
		}
		var status *httpclient.StatusError
		if got := errors.As(err, &status); got != (tt.path == "/missing" || tt.path == "/redirect") {
			t.Errorf("%s: a StatusError: %v", tt.path, got)
		}
		if got := errors.Is(err, input.ErrTooLarge); got != (tt.path == "/long") {
			t.Errorf("%s: ErrTooLarge: %v", tt.path, got)
		}
	}
}

// An error of a connection that is cut has the local port in it, and the URL.
func TestFailureIsTheSameEachTime(t *testing.T) {
	for want, linger := range map[string]int{"reset by peer": 0, "EOF": -1} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(linger)
			conn.Close()
		}))
		messages := make(map[string]bool)
		for range 5 {
			_, err := get(t, httpclient.New(httpclient.Transport(nil)), server.URL+"/x?secret")
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Fatalf("got %v, want %q in it", err, want)
			}
			messages[err.Error()] = true
		}
		if len(messages) != 1 {
			t.Errorf("different messages: %v", messages)
		}
		server.Close()
		_, err := get(t, httpclient.New(httpclient.Transport(nil)), server.URL+"/x?secret")
		if err == nil || !strings.Contains(hint.Of(err), "is it running") || strings.Contains(err.Error(), "secret") {
			t.Errorf("no server: got %v (hint: %s)", err, hint.Of(err))
		}
	}
}

func TestCAPool(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.crt")
	if _, err := httpclient.CAPool(file); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), file) {
		t.Errorf("missing: got %v", err)
	}
	for content, want := range map[string]string{
		"no PEM":                   "reading CA certificates from " + file + ": no certificate in PEM form",
		strings.Repeat("x", 2<<20): "reading CA certificates from " + file + ": too large: more than 1 MiB",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := httpclient.CAPool(file); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	roots, err := httpclient.CAPool(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, httpclient.New(httpclient.Transport(roots)), server.URL); err != nil {
		t.Error(err)
	}
	if roots, err = httpclient.CAPool(""); roots != nil || err != nil {
		t.Errorf("no file: got %v, %v", roots, err)
	}
	_, err = get(t, httpclient.New(httpclient.Transport(nil)), server.URL)
	if err == nil || !strings.Contains(hint.Of(err), "trust the CA") {
		t.Errorf("the system trusts it: %v (hint: %s)", err, hint.Of(err))
	}
}
