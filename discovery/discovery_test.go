package discovery_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
)

func TestParseIssuerRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"":                               "empty",
		"oidc.example.com":               "no host",
		"https://":                       "no host",
		"https://:443":                   "no host",
		"https:oidc.example.com":         "no host",
		"http://oidc.example.com":        "only for loopback hosts",
		"http://10.0.0.1":                "only for loopback hosts",
		"http://localhost.example.com":   "only for loopback hosts",
		"ftp://oidc.example.com":         "scheme",
		"https://me@oidc.example.com":    "user information",
		"https://me:pw@oidc.example.com": "user information",
		"https://oidc.example.com?a=b":   "query and fragment",
		"https://oidc.example.com?":      "query and fragment",
		"https://oidc.example.com/#":     "query and fragment",
		"https://oidc.example.com/a b":   "white space",
		" https://oidc.example.com":      "white space",
		"https://oidc.example.com\n":     "white space",
		"https://öidc.example.com":       "punycode",
		"https://oidc.example.com/a/../": ".. segments",
		"https://h:":                     "remove the colon",
		"https://oidc.example.com:/a":    "the port is empty",
		"https://[2001:db8::1]:":         "the port is empty",
		"https://h:99999":                "port 99999 is not between 1 and 65535",
		"https://h:65536":                "not between",
		"https://h:0":                    "not between",
		"https://h:99999999999999999999": "not between",
		"https://h:00443":                "remove the zeros",
		"https://*.example.com":          "is a pattern",
		"https://*":                      "is a pattern",
		"https://a.*.example.com":        "is a pattern",
		"https://a,b.example.com":        `the character ','`,
		"https://a!.example.com":         `the character '!'`,
		"https://$(x).example.com":       `the character '$'`,
		"https://-a.example.com":         "hyphen",
		"https://a-.example.com":         "hyphen",
		"https://.example.com":           "empty label",
		"https://a..b":                   "empty label",
		"https://a..":                    "empty label",
		"https://1.2.3":                  "ends with a number",
		"https://1.2.3.4.5":              "ends with a number",
		"https://256.1.1.1":              "ends with a number",
		"https://a.0x7f":                 "ends with a number",
		"https://[fe80::1%25eth0]":       "not an IPv6 address",
		"https://[1.2.3.4]":              "invalid IP-literal",
		"https://" + strings.Repeat("a", 64) + ".example.com":       "DNS allows 63",
		"https://" + strings.Repeat("abcdefg.", 32) + "test":        "DNS allows 253",
		"https://oidc.example.com:x":                                "invalid port",
		"https://oidc.example.com/.well-known/openid-configuration": "remove",
	} {
		_, err := discovery.ParseIssuer(raw)
		if err == nil || !strings.Contains(hint.Text(err, hint.Field), want) {
			t.Errorf("%q: got %v, want an error with %q", raw, err, want)
		}
	}
}

func TestIssuerWarnings(t *testing.T) {
	for raw, want := range map[string][]string{
		"https://oidc.example.com":                     nil,
		"https://oidc.example.com/clusters":            nil,
		"http://localhost":                             nil,
		"http://127.0.0.1":                             nil,
		"http://[::1]":                                 nil,
		"https://1.2.3.4":                              nil,
		"https://[2001:db8::1]":                        nil,
		"https://xn--idc-sna.example.com":              nil,
		"https://kubernetes.example.com":               nil,
		"https://svc.example.com":                      nil,
		"https://kubernetes.default.svc":               {"a name inside a cluster"},
		"https://kubernetes.default.svc.cluster.local": {"a name inside a cluster"},
		"https://kubernetes.default.svc.corp.example":  {"a name inside a cluster"},
		"https://kubernetes.default":                   {"a name inside a cluster"},
		"https://kubernetes":                           {"a name inside a cluster"},
		"https://oidc.kube-system.svc":                 {"a name inside a cluster"},
		"https://oidc.kube-system.svc.cluster.local.":  {"a name inside a cluster"},
		"https://KUBERNETES.default.svc":               {"a name inside a cluster", "upper case"},
		"https://oidc":                                 {"has no domain"},
		"https://oidc.local":                           {"a private network"},
		"https://ip-10-0-0-1.ec2.internal":             {"a private network"},
		"https://oidc.home.arpa":                       {"a private network"},
		"https://10.0.0.1":                             {"a private network"},
		"https://192.168.1.1:6443":                     {"a private network", "port"},
		"https://100.64.0.1":                           {"a private network"},
		"https://169.254.169.254":                      {"a private network"},
		"https://[fd00::1]":                            {"a private network"},
		"https://[::ffff:10.0.0.1]":                    {"a private network"},
		"https://oidc_a.example.com":                   {"underscore"},
		"https://oidc.example.com/":                    {"AWS STS and Entra ID"},
		"https://oidc.example.com:8443":                {"AWS STS does not accept"},
		"https://Oidc.example.com":                     {"upper case"},
		"https://oidc.example.com/A:1":                 {"upper case"},
		"http://localhost:8080/":                       {"ends with a slash", "port"},
		"https://a.test/" + strings.Repeat("a", 260):   {"at most 255"},
		"https://OIDC.example.com:8443/abc/":           {"ends with a slash", "port", "upper case"},
	} {
		issuer, err := discovery.ParseIssuer(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		got := issuer.Warnings()
		if len(got) != len(want) {
			t.Errorf("%q: got warnings %q, want %q", raw, got, want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%q: got warning %q, want %q", raw, got[i], want[i])
			}
		}
	}
}

func TestPaths(t *testing.T) {
	type paths struct{ Configuration, JWKS []string }
	for raw, want := range map[string]paths{
		"https://a.test": {
			[]string{"/.well-known/openid-configuration", "//.well-known/openid-configuration"},
			[]string{"/openid/v1/jwks", "//openid/v1/jwks"},
		},
		"https://a.test/": {
			[]string{"/.well-known/openid-configuration", "//.well-known/openid-configuration"},
			[]string{"/openid/v1/jwks", "//openid/v1/jwks"},
		},
		"https://a.test/c/1": {
			[]string{"/c/1/.well-known/openid-configuration", "/c/1//.well-known/openid-configuration", "/.well-known/openid-configuration/c/1"},
			[]string{"/c/1/openid/v1/jwks", "/c/1//openid/v1/jwks"},
		},
		"https://a.test/c/": {
			[]string{"/c/.well-known/openid-configuration", "/c//.well-known/openid-configuration", "/.well-known/openid-configuration/c", "/.well-known/openid-configuration/c/"},
			[]string{"/c/openid/v1/jwks", "/c//openid/v1/jwks"},
		},
	} {
		issuer, err := discovery.ParseIssuer(raw)
		if err != nil {
			t.Fatal(err)
		}
		got := paths{issuer.DiscoveryPaths(), issuer.JWKSPaths()}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
	}
}

func TestMetadata(t *testing.T) {
	issuer, err := discovery.ParseIssuer("https://a.test/c/")
	if err != nil {
		t.Fatal(err)
	}
	data, err := discovery.New(issuer, []string{"RS256", "ES256"}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"issuer":                                "https://a.test/c/",
		"jwks_uri":                              "https://a.test/c/openid/v1/jwks",
		"response_types_supported":              []any{"id_token"},
		"subject_types_supported":               []any{"public"},
		"id_token_signing_alg_values_supported": []any{"RS256", "ES256"},
		"claims_supported":                      []any{"aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
}
