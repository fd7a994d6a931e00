package check_test

import (
	"context"
	"crypto/x509"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oidc-provider/discovery"
	"oidc-provider/internal/check"
)

// Issuers of others that work, in the form that they have, and all that is to
// be said of each.
var others = map[string]struct {
	issuer, keys string
	metadata     map[string]any
	more         []map[string]any
	header       http.Header // of both documents
	plant        func(*rig)
	parties      []string // default all that are the default
	want         []string // status and check
}{
	"EKS": {
		issuer: "https://oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE", keys: "/id/EXAMPLED539D4633E53DE1B71EXAMPLE/keys",
		metadata: map[string]any{"authorization_endpoint": "urn:kubernetes:programmatic_authorization", "claims_supported": []string{"sub", "iss"}},
	},
	"GKE": {
		issuer: "https://container.googleapis.com/v1/projects/p/locations/europe-west1/clusters/c", keys: "/v1/projects/p/locations/europe-west1/clusters/c/jwks",
		metadata: map[string]any{"grant_types": []string{"urn:kubernetes:grant_type:programmatic_authorization"}},
	},
	"Google accounts, with keys in any order": {
		issuer: "https://accounts.google.com", keys: "https://www.googleapis.com/oauth2/v3/certs",
		metadata: map[string]any{"response_types_supported": []string{"code", "token", "id_token"}, "authorization_endpoint": "https://accounts.google.com/o/oauth2/v2/auth"},
		more:     []map[string]any{{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "second"}},
		plant: func(r *rig) {
			reversed := r.clone()
			slices.Reverse(reversed.keys)
			var n atomic.Int64
			r.before = func(w http.ResponseWriter, req *http.Request) bool {
				if n.Add(1)%2 == 0 {
					reversed.ServeHTTP(w, req)
				}
				return n.Load()%2 == 0
			}
		},
	},
	"GitHub Actions": {
		issuer: "https://token.actions.githubusercontent.com", keys: "/.well-known/jwks",
		plant: func(r *rig) { r.keys[0]["x5c"] = r.x5c() },
		want:  []string{"warn jwks/members"},
	},
	"Dex": {
		issuer: "https://dex.example.com/dex", keys: "/dex/keys",
		metadata: map[string]any{"response_types_supported": []string{"code"}, "grant_types_supported": []string{"authorization_code"}},
		header:   http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"max-age=14400, must-revalidate"}},
	},
	"Keycloak": {
		issuer: "https://sso.example.com/realms/Main", keys: "/realms/Main/protocol/openid-connect/certs",
		metadata: map[string]any{"id_token_signing_alg_values_supported": []string{"PS384", "RS384", "EdDSA", "ES384", "HS256", "HS512", "ES256", "RS256", "HS384"}},
		more:     []map[string]any{{"kty": "RSA", "use": "enc", "alg": "RSA-OAEP", "kid": "enc"}},
		header:   http.Header{"Content-Type": {"application/json;charset=UTF-8"}, "Cache-Control": {"no-cache"}},
		want:     []string{"warn discovery/cache", "warn discovery/algorithms", "warn jwks/cache", "fail jwks/use"},
	},
	"Keycloak, for Vault": {
		issuer: "https://sso.example.com/realms/Main", keys: "/realms/Main/protocol/openid-connect/certs",
		more:    []map[string]any{{"kty": "RSA", "use": "enc", "alg": "RSA-OAEP", "kid": "enc"}},
		parties: []string{"vault", "kubernetes", "go-oidc"},
	},
	"a bucket": {
		issuer: "https://keys.s3.eu-central-1.amazonaws.com/clusters/One", keys: "/clusters/One/keys.json",
		header: http.Header{"Content-Type": {"application/json"}, "Last-Modified": {"Thu, 01 Jan 2026 00:00:00 GMT"}, "Etag": {`"d41d"`}, "Accept-Ranges": {"bytes"}},
		want:   []string{"fail discovery/cache", "fail jwks/cache"},
	},
	"a bucket behind CloudFront": {
		issuer: "https://d111111abcdef8.cloudfront.net", keys: "/keys.json",
		header: http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"max-age=3600, s-maxage=3600"}, "Last-Modified": {"Thu, 01 Jan 2026 00:00:00 GMT"}, "Age": {"3599"}, "Vary": {"Accept-Encoding"}},
	},
	// Its keys are at an address of their own, with a CA of its own, and it has
	// them only for who takes their media type.
	"kube-apiserver": {
		issuer: "https://kubernetes.default.svc.cluster.local", keys: "https://172.18.0.2:6443/openid/v1/jwks",
		parties: []string{"vault", "kubernetes"},
		plant: func(r *rig) {
			r.keySet.header.Set("Content-Type", "application/jwk-set+json")
			r.privateCA()
			r.tls.Certificates[0] = private.leaf(r, func(c *x509.Certificate) {
				c.DNSNames, c.IPAddresses = []string{"kubernetes.default.svc.cluster.local"}, []net.IP{net.IPv4(172, 18, 0, 2)}
			})
			r.before = func(w http.ResponseWriter, req *http.Request) bool {
				accept := req.Header.Get("Accept")
				if !strings.HasPrefix(req.URL.Path, "/openid") || accept == "" || strings.Contains(accept, "jwk-set") || strings.Contains(accept, "*/*") {
					return false
				}
				w.WriteHeader(http.StatusNotAcceptable)
				return true
			}
		},
	},
	"kube-apiserver, which wants a login": {
		issuer: "https://oidc.example.com", keys: "/openid/v1/jwks",
		plant: func(r *rig) {
			r.before = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Cache-Control", "no-cache, private")
				w.WriteHeader(http.StatusForbidden)
				return true
			}
		},
		want: []string{"fail discovery/status"},
	},
	"a chain with an old certificate that nobody needs": {
		issuer: "https://oidc.example.com", keys: "/keys",
		plant: func(r *rig) {
			c := &r.tls.Certificates[0]
			c.Certificate = append(c.Certificate, root.leaf(r, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Hour) }).Certificate[0])
		},
	},
}

func TestIssuersOfOthers(t *testing.T) {
	for name, other := range others {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			at, err := url.Parse(other.issuer)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := at.Parse(other.keys)
			if err != nil {
				t.Fatal(err)
			}
			r.issuer = other.issuer
			r.metadata = map[string]any{
				"issuer": other.issuer, "jwks_uri": keys.String(), "response_types_supported": []string{"id_token"},
				"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
			}
			maps.Copy(r.metadata, other.metadata)
			for _, k := range other.more {
				k = maps.Clone(k)
				k["n"], k["e"] = jwk(t, otherKey().PublicKey)["n"], "AQAB"
				r.keys = append(r.keys, k)
			}
			if other.header != nil {
				r.configuration.header, r.keySet.header = other.header, other.header
			}
			r.leaf(func(c *x509.Certificate) { c.DNSNames = []string{at.Hostname(), keys.Hostname()} })
			if other.plant != nil {
				other.plant(r)
			}
			before := r.before
			r.before = func(w http.ResponseWriter, req *http.Request) bool {
				switch req.URL.Path {
				case at.Path + discovery.WellKnown:
					req.URL.Path = discovery.WellKnown
				case keys.Path:
					req.URL.Path = discovery.JWKSPath
				}
				return before != nil && before(w, req)
			}
			r.options.ConnectTo = map[string][]string{}
			address := r.serve()
			for _, u := range []*url.URL{at, keys} {
				port := u.Port()
				if port == "" {
					port = "443"
				}
				r.options.ConnectTo[net.JoinHostPort(u.Hostname(), port)] = []string{address}
			}
			r.options.Issuer, r.options.Parties, r.options.Tries = r.issuer, other.parties, 4
			report, err := check.Run(context.Background(), r.options)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, result := range report.Results {
				if result.Status == check.Warn || result.Status == check.Fail {
					got = append(got, string(result.Status)+" "+result.Check)
				}
			}
			if diff := cmp.Diff(other.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
