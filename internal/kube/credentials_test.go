package kube_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/kube"
)

// idToken returns what looks like a token that expires in that time.
func idToken(name string, in time.Duration) string {
	claims := fmt.Sprintf(`{"sub":%q,"exp":%d}`, name, time.Now().Add(in).Unix())
	return "h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s"
}

// writeUser writes a kubeconfig for server with one user.
func writeUser(t *testing.T, path, server, user string) {
	t.Helper()
	err := os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: u, user: %s}]
`, server, user), 0o600)
	if err != nil {
		t.Fatal(err)
	}
}

// authorization returns what a request with the kubeconfig at path has as its
// credentials.
func authorization(ctx context.Context, path string) (string, error) {
	cfg, err := kube.Config(path, "")
	if err != nil {
		return "", err
	}
	s, err := kube.Connect(cfg)
	if err != nil {
		return "", err
	}
	body, err := s.Document(ctx, discovery.JWKSPath)
	return string(body), err
}

// echo answers with the credentials of the request.
func echo(t *testing.T) string {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Authorization"))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// provider is an identity provider that returns a new token for the refresh token
// "good".
func provider(t *testing.T, token string) string {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc(discovery.WellKnown, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"token_endpoint":%q}`, server.URL+"/token")
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.FormValue("refresh_token") != "good" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"invalid_grant"}`)
			return
		}
		fmt.Fprintf(w, `{"access_token":"a","token_type":"Bearer","refresh_token":"next","id_token":%q}`, token)
	})
	return server.URL
}

// TestAuthProviders expects what kubectl does.
func TestAuthProviders(t *testing.T) {
	valid, refreshed, server := idToken("valid", time.Hour), idToken("refreshed", time.Hour), echo(t)
	idp := provider(t, refreshed)
	user := func(name, more string) string {
		return fmt.Sprintf("{auth-provider: {name: %s, config: {%s}}}", name, more)
	}
	oidc := func(more string) string {
		return user("oidc", fmt.Sprintf("idp-issuer-url: %q, client-id: a", idp)+more)
	}
	for _, tt := range []struct{ name, user, want, hint string }{ // want: the credentials, or a part of the error
		{"id-token", oidc(", id-token: " + valid), "Bearer " + valid, ""},
		{"id-token and refresh-token", oidc(", id-token: " + valid + ", refresh-token: bad"), "Bearer " + valid, ""},
		{"expired, refreshed", oidc(", refresh-token: good, id-token: " + idToken("old", -time.Hour)), "Bearer " + refreshed, ""},
		{"expired within seconds", oidc(", refresh-token: good, id-token: " + idToken("old", 5*time.Second)), "Bearer " + refreshed, ""},
		{"no id-token, refreshed", oidc(", refresh-token: good"), "Bearer " + refreshed, ""},
		{"expired", oidc(", id-token: " + idToken("old", -time.Minute)), "cannot refresh without refresh-token", "log in again"},
		{"refused", oidc(", refresh-token: bad, id-token: " + idToken("old", -time.Hour)), "failed to refresh token", "log in again"},
		{"not a JWT", oidc(", id-token: b"), "ID Token is not a valid JWT", "log in again"},
		{"no client", user("oidc", "idp-issuer-url: 'https://idp.example.com'"), "Must provide client-id", "check the kubeconfig"},
		{"gcp", user("gcp", "cmd-path: gcloud"), "auth-provider gcp of the kubeconfig was removed", "gke-gcloud-auth-plugin"},
		{"azure", user("azure", "tenant-id: x"), "auth-provider azure of the kubeconfig was removed", "kubelogin convert-kubeconfig"},
		{"openstack", user("openstack", "ttl: 10m"), "auth-provider openstack of the kubeconfig was removed", "client-keystone-auth"},
		{"unknown", user("OIDC", ""), `auth-provider "OIDC" of the kubeconfig is unknown`, "exec, a token"},
		{"token beside a provider", "{token: t, auth-provider: {name: oidc, config: {idp-issuer-url: x, client-id: a, id-token: b}}}", "Bearer t", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config")
			writeUser(t, path, server, tt.user)
			got, err := authorization(t.Context(), path)
			if tt.hint == "" {
				if err != nil || got != tt.want {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(hint.Of(err), tt.hint) {
				t.Errorf("got %q, %v with hint %q", got, err, hint.Of(err))
			}
		})
	}
}

// A new token in the kubeconfig replaces the old one, and a refreshed one is kept
// there.
func TestAuthProviderFollowsTheFile(t *testing.T) {
	refreshed, server := idToken("refreshed", time.Hour), echo(t)
	idp := provider(t, refreshed)
	path := filepath.Join(t.TempDir(), "config")
	for _, name := range []string{"one", "two"} {
		token := idToken(name, time.Hour)
		writeUser(t, path, server, fmt.Sprintf("{auth-provider: {name: oidc, config: {idp-issuer-url: %q, client-id: a, id-token: %s}}}", idp, token))
		if got, err := authorization(t.Context(), path); got != "Bearer "+token {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	writeUser(t, path, server, fmt.Sprintf("{auth-provider: {name: oidc, config: {idp-issuer-url: %q, client-id: a, refresh-token: good}}}", idp))
	for range 2 {
		if got, err := authorization(t.Context(), path); got != "Bearer "+refreshed {
			t.Errorf("got %q, %v", got, err)
		}
	}
	kept, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(kept), "refresh-token: next") {
		t.Errorf("the kubeconfig is %s, %v", kept, err)
	}
}

// Waiting for credentials ends with the request.
func TestCredentialsThatHang(t *testing.T) {
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hangs.Close)
	t.Cleanup(hangs.CloseClientConnections)
	for name, user := range map[string]string{
		"auth-provider": fmt.Sprintf("{auth-provider: {name: oidc, config: {idp-issuer-url: %q, client-id: a, refresh-token: good}}}", hangs.URL),
		"exec":          "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sleep, args: ['5']}}",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config")
			writeUser(t, path, echo(t), user)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			started := time.Now()
			if _, err := authorization(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(started); took > 3*time.Second {
				t.Errorf("that took %v", took)
			}
		})
	}
}
