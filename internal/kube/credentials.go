package kube

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"slices"

	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc" // the one auth-provider that kubectl still has
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"oidc-provider/internal/hint"
)

// oidc is the name of the auth-provider that kubectl still has.
const oidc = "oidc"

// removed are the auth-providers that kubectl had, and what replaces them.
var removed = map[string]string{
	"gcp": "install gke-gcloud-auth-plugin, and run `gcloud container clusters get-credentials`, " +
		"which writes a user with exec",
	"azure":     "install kubelogin, and run `kubelogin convert-kubeconfig`, which writes a user with exec",
	"openstack": "use a user with exec that runs client-keystone-auth",
}

// checkAuthProvider refuses an auth-provider that does not exist any more.
func checkAuthProvider(p *clientcmdapi.AuthProviderConfig) error {
	if p == nil || p.Name == oidc {
		return nil
	}
	if replacement, ok := removed[p.Name]; ok {
		return hint.Errorf(replacement, "auth-provider %s of the kubeconfig was removed from Kubernetes", p.Name)
	}
	return hint.Errorf("use a user with exec, a token or a client certificate",
		"auth-provider %.64q of the kubeconfig is unknown", p.Name)
}

// useAuthProvider makes requests of cfg have the credentials of its auth-provider.
func useAuthProvider(cfg *rest.Config) error {
	if cfg.AuthProvider == nil {
		return nil
	}
	// client-go keeps a provider for each address for ever. A kubeconfig that has
	// changed needs another one.
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(cfg.AuthProvider.Config)) {
		fmt.Fprintf(h, "%q %q\n", name, cfg.AuthProvider.Config[name])
	}
	address := fmt.Sprintf("%s %x", cfg.Host, h.Sum(nil))
	provider, err := rest.GetAuthProvider(address, cfg.AuthProvider, cfg.AuthConfigPersister)
	if err != nil {
		return fmt.Errorf("auth-provider %s: %w", cfg.AuthProvider.Name, err)
	}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &providedCredentials{provider, next} })
	cfg.AuthProvider, cfg.AuthConfigPersister = nil, nil
	return nil
}

// providedCredentials adds the credentials of an auth-provider to requests.
type providedCredentials struct {
	provider rest.AuthProvider
	next     http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (c *providedCredentials) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := false
	resp, err := c.provider.WrapTransport(roundTrip(func(req *http.Request) (*http.Response, error) {
		sent = true
		return c.next.RoundTrip(req)
	})).RoundTrip(req)
	if err != nil && !sent {
		err = hint.Errorf("log in again as for kubectl, which then works as well", "getting credentials from auth-provider %s: %w",
			oidc, err)
	}
	return resp, err
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// endWithContext returns a transport that returns when the context of a request is
// done, although next is still waiting for credentials: client-go runs programs and
// asks other servers for them, with no limit.
func endWithContext(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		type result struct {
			resp *http.Response
			err  error
		}
		results := make(chan result)
		ctx := req.Context()
		go func() {
			resp, err := next.RoundTrip(req)
			select {
			case results <- result{resp, err}:
			case <-ctx.Done():
				if err == nil {
					resp.Body.Close()
				}
			}
		}()
		select {
		case r := <-results:
			return r.resp, r.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
}
