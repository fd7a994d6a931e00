package kube_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/kube"
)

// connect returns a server that answers as handler does, below a path as some
// proxies have it.
func connect(t *testing.T, handler http.HandlerFunc) (*kube.Server, *httptest.Server) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	s, err := kube.Connect(&rest.Config{Host: server.URL + "/prefix", BearerToken: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	return s, server
}

func TestIssuer(t *testing.T) {
	for _, tt := range []struct {
		name, body  string
		code        int
		want, hint  string // the issuer, or parts of the error and its hint
		unavailable bool
	}{
		{"good", `{"issuer":"https://issuer.example","jwks_uri":"x"}`, 200, "https://issuer.example", "", false},
		{"no issuer", `{}`, 200, "not a discovery document", "is the server in the kubeconfig an API server?", false},
		{"page", `<html>secret`, 200, "not a discovery document", "is the server in the kubeconfig an API server?", false},
		{"endless", strings.Repeat("x", 1<<21), 200, "too large", "is the server in the kubeconfig an API server?", false},
		{"401", `secret`, 401, "401", "does not accept the credentials", false},
		{"403", `secret`, 403, "403", "bind the ClusterRole system:service-account-issuer-discovery", false},
		{"404", `secret`, 404, "404", "is an https URL", false},
		{"302", `secret`, 302, "redirects", "is the server in the kubeconfig an API server?", false},
		{"429", `secret`, 429, "429", "this may pass", true},
		{"503", `secret`, 503, "503", "this may pass", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := connect(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/prefix/.well-known/openid-configuration" || r.Header.Get("Authorization") != "Bearer mine" {
					t.Errorf("asks for %s with %q", r.URL, r.Header["Authorization"])
				}
				w.WriteHeader(tt.code)
				_, _ = io.WriteString(w, tt.body)
			})
			got, err := s.Issuer(t.Context())
			if err == nil {
				if got != tt.want {
					t.Errorf("got %q", got)
				}
				return
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(hint.Of(err), tt.hint) || tt.hint == "" ||
				!strings.HasPrefix(err.Error(), discovery.WellKnown+": ") || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v (hint: %s)", err, hint.Of(err))
			}
			if kube.Unavailable(err) != tt.unavailable {
				t.Errorf("unavailable: %v", !tt.unavailable)
			}
		})
	}
}

func TestUnavailable(t *testing.T) {
	s, server := connect(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Document(ctx, discovery.JWKSPath)
	if !kube.Unavailable(err) || !errors.Is(err, context.DeadlineExceeded) || hint.Of(err) == "" {
		t.Errorf("no answer: %v (hint: %s)", err, hint.Of(err))
	}
	s.CloseConnections()
	server.Close()
	_, err = s.Document(t.Context(), discovery.JWKSPath)
	if !kube.Unavailable(err) || hint.Of(err) == "" || strings.Contains(err.Error(), "http://") {
		t.Errorf("no server: %v (hint: %s)", err, hint.Of(err))
	}
}

// Waiting does not make an unknown CA known.
func TestUnknownCA(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	s, err := kube.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Issuer(t.Context())
	want := "the kubeconfig needs the CA of that API server, and a name or address that its certificate contains"
	if hint.Of(err) != want || kube.Unavailable(err) {
		t.Errorf("got %v (hint: %s)", err, hint.Of(err))
	}
}

func TestConnectRefuses(t *testing.T) {
	for name, cfg := range map[string]*rest.Config{
		"address":     {Host: "://"},
		"certificate": {Host: "https://api.example", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("no PEM")}},
	} {
		if _, err := kube.Connect(cfg); err == nil || hint.Of(err) != "check the kubeconfig" {
			t.Errorf("%s: got %v (hint: %s)", name, err, hint.Of(err))
		}
	}
}
