package trust_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/trust"
)

// shown returns an error as its reader sees it: the hint names options as flags.
func shown(err error) string {
	return hint.Text(err, func(field string) string {
		return "--" + strings.ToLower(upperCase.ReplaceAllString(strings.TrimPrefix(field, "option."), "-$0"))
	})
}

var upperCase = regexp.MustCompile(`[A-Z]`)

// An invalid value is refused before any request, with a hint that names its
// option.
func TestRefuses(t *testing.T) {
	public := facts(t, "https://oidc.example.com")
	with := func(change func(*trust.Facts)) trust.Facts {
		f := public
		f.Audience = "demo"
		change(&f)
		return f
	}
	namespace := func(s string) trust.Facts { return with(func(f *trust.Facts) { f.Namespace = s }) }
	account := func(s string) trust.Facts { return with(func(f *trust.Facts) { f.ServiceAccount = s }) }
	audience := func(s string) trust.Facts { return with(func(f *trust.Facts) { f.Audience = s }) }
	demo, private := audience("demo"), with(func(f *trust.Facts) { f.CA = testCA(t) })
	const id = "11111111-2222-3333-4444-555555555555"

	for _, c := range []struct {
		setup  trust.Setup
		format string
		want   string
	}{
		{&trust.Generic{Facts: trust.Facts{Audience: "demo", Namespace: "a", ServiceAccount: "b"}}, "", "set --issuer"},
		{&trust.Generic{Facts: namespace("")}, "", "--namespace"},
		{&trust.Generic{Facts: namespace("a:b")}, "", "--namespace"},
		{&trust.Generic{Facts: namespace("$(reboot)")}, "", "--namespace"},
		{&trust.Generic{Facts: account("A")}, "", "--service-account"},
		{&trust.Generic{Facts: account("a\nb")}, "", "--service-account"},
		{&trust.Generic{Facts: account("a'b")}, "", "--service-account"},
		{&trust.Generic{Facts: public}, "", "set --audience"},
		{&trust.Kubernetes{Facts: public}, "", "set --audience"},
		{&trust.Generic{Facts: audience("-x")}, "", "--audience"},
		{&trust.Generic{Facts: audience("@file")}, "", "--audience"},
		{&trust.Generic{Facts: audience("a,b")}, "", "--audience"},
		{&trust.Generic{Facts: audience("a b")}, "", "--audience"},
		{&trust.Generic{Facts: audience(`a"b`)}, "", "--audience"},
		{&trust.Generic{Facts: audience(strings.Repeat("a", 256))}, "", "--audience"},
		{&trust.Generic{Facts: with(func(f *trust.Facts) { f.CA = []byte("CA") })}, "", "no certificate"},
		{&trust.Generic{Facts: demo}, "cli", "text, pod"},

		{&trust.AWS{Facts: facts(t, "http://localhost")}, "", "only https issuers"},
		{&trust.AWS{Facts: audience("file:///etc/passwd")}, "", "from a file"},
		{&trust.AWS{Facts: demo, RoleName: "a b"}, "", "--role-name"},
		{&trust.AWS{Facts: demo, RoleName: strings.Repeat("a", 65)}, "", "--role-name"},
		{&trust.AWS{Facts: demo, Account: "12345678901"}, "", "--account"},
		{&trust.AWS{Facts: demo, Region: "Frankfurt"}, "", "--region"},
		{&trust.AWS{Facts: demo}, "pod", "set --account"},
		{&trust.AWS{Facts: demo, Policies: []string{"AmazonS3ReadOnlyAccess"}}, "", "--policy-arn"},
		{&trust.AWS{Facts: demo, Thumbprints: []string{"AB"}}, "", "want a SHA-1"},
		{&trust.AWS{Facts: demo, Thumbprints: make([]string, 6)}, "", "at most 5"},

		{&trust.GCP{Facts: facts(t, "http://localhost")}, "", "only https issuers"},
		{&trust.GCP{Facts: demo, KeysFrom: "jwks"}, "", "--keys takes discovery or copy"},
		{&trust.GCP{Facts: private, KeysFrom: "discovery"}, "", "set --keys to copy"},
		{&trust.GCP{Facts: account(strings.Repeat("a", 120))}, "", "at most 127"},
		{&trust.GCP{Facts: demo, Pool: "gcp-a"}, "", "gcp-"},
		{&trust.GCP{Facts: demo, Pool: "abc"}, "", "--pool"},
		{&trust.GCP{Facts: demo, Provider: "Cluster"}, "", "--provider"},
		{&trust.GCP{Facts: demo, Project: "My project"}, "", "--project"},
		{&trust.GCP{Facts: demo, ProjectNumber: "shop-prod"}, "", "--project-number"},
		{&trust.GCP{Facts: demo, GoogleServiceAccount: "till"}, "", "--google-service-account"},
		{&trust.GCP{Facts: demo, Roles: []string{"viewer"}}, "", "--role"},
		{&trust.GCP{Facts: demo, Roles: []string{"roles/viewer"}, GoogleServiceAccount: "a@b.iam.gserviceaccount.com"}, "", "either --role or --google-service-account"},
		{&trust.GCP{Facts: demo}, "pod", "set --project-number"},

		{&trust.Azure{Facts: facts(t, "http://localhost"), ResourceGroup: "a"}, "", "only https issuers"},
		{&trust.Azure{Facts: demo}, "", "set --resource-group"},
		{&trust.Azure{Facts: demo, ResourceGroup: "a", Application: id}, "", "exclude each other"},
		{&trust.Azure{Facts: demo, ResourceGroup: "a."}, "", "--resource-group"},
		{&trust.Azure{Facts: demo, ResourceGroup: "a", Identity: "-a-"}, "", "--identity"},
		{&trust.Azure{Facts: demo, ResourceGroup: "a", Credential: "a.b"}, "", "--credential"},
		{&trust.Azure{Facts: demo, Application: "till"}, "", "--application"},
		{&trust.Azure{Facts: demo, ClientID: id}, "pod", "set --client-id and --tenant-id"},
		{&trust.Azure{Facts: demo, ClientID: id, TenantID: "contoso"}, "pod", "--tenant-id"},

		{&trust.Vault{Facts: demo, KeysFrom: "upload"}, "", "--keys takes discovery, jwks or copy"},
		{&trust.Vault{Facts: demo, Path: "/auth/jwt"}, "", "--path"},
		{&trust.Vault{Facts: demo, RoleName: "a/b"}, "", "--role-name"},
		{&trust.Vault{Facts: demo, Policies: []string{"a,b"}}, "", "--policy"},
		{&trust.Vault{Facts: demo, TTL: time.Millisecond}, "", "--ttl"},
		{&trust.Vault{Facts: demo}, "pod", "set --address"},
		{&trust.Vault{Facts: demo, Address: "vault.example.com"}, "pod", "--address"},

		{&trust.Kubernetes{Facts: with(func(f *trust.Facts) { f.Issuer = facts(t, "http://localhost").Issuer })}, "", "only https issuers"},
		{&trust.Kubernetes{Facts: demo, Prefix: "system:serviceaccount:"}, "", "--username-prefix"},
		{&trust.Kubernetes{Facts: demo, Prefix: "System:"}, "", "--username-prefix"},
		{&trust.Kubernetes{Facts: demo, Prefix: "-"}, "", "--username-prefix"},
		{&trust.Kubernetes{Facts: demo, Prefix: "a b"}, "", "--username-prefix"},
		{&trust.Kubernetes{Facts: demo, MaxTokenLifetime: time.Minute}, "", "--max-token-lifetime"},
		{&trust.Kubernetes{Facts: demo, DiscoveryURL: "https://oidc.example.com/"}, "", "--discovery-url"},
		{&trust.Kubernetes{Facts: demo, DiscoveryURL: "http://oidc.example.com/x"}, "", "--discovery-url"},
		{&trust.Kubernetes{Facts: demo, DiscoveryURL: "https://a.test/x\n"}, "", "--discovery-url"},
		{&trust.Kubernetes{Facts: demo}, "pod", "set --server"},
		{&trust.Kubernetes{Facts: demo, Server: "https://b.test", ServerCA: privateKey(t)}, "pod", "no certificate"},
		{&trust.Kubernetes{Facts: demo, Server: "api"}, "pod", "--server"},
	} {
		err := trust.Validate(c.setup, c.format)
		if err == nil || !strings.Contains(shown(err), c.want) {
			t.Errorf("%s, want an error with %q, got %v", c.setup.Target().Name, c.want, shown(err))
		}
		if err != nil && strings.Contains(err.Error()+hint.Of(err), " --") && !strings.Contains(hint.Of(err), "`") {
			t.Errorf("%s, %q: it names a flag: %v, %s", c.setup.Target().Name, c.want, err, hint.Of(err))
		}
		if _, again := trust.Render(c.setup, c.format); again == nil {
			t.Errorf("%s, %q: it is printed anyway", c.setup.Target().Name, c.want)
		}
	}
}

// privateKey is a file that somebody might take for a CA.
func privateKey(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("../../testdata/keys/rsa-pkcs8.pem")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What was to be seen of the issuer and was not cannot be printed either.
func TestRefusesUnseen(t *testing.T) {
	unseen := facts(t, "https://oidc.example.com")
	unseen.Keys, unseen.JWKSURI = nil, ""
	onlyES512 := unseen
	onlyES512.Keys = testKeys(t, "ec-secp521r1-public.pem")
	for want, s := range map[string]trust.Setup{
		"no keys to copy":       &trust.GCP{Facts: unseen, KeysFrom: trust.KeysCopy},
		"only RS256 and ES256":  &trust.GCP{Facts: onlyES512, KeysFrom: trust.KeysCopy},
		"no key of the issuer":  &trust.Vault{Facts: unseen, KeysFrom: trust.KeysCopy},
		"jwks_uri of the issue": &trust.Vault{Facts: unseen, KeysFrom: trust.KeysJWKS},
	} {
		if err := trust.Validate(s, ""); err != nil {
			t.Errorf("%s: before anybody was asked: %v", want, err)
		}
		if _, err := trust.Render(s, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

// The names that follow from others are good ones, however long and odd those
// are, and two issuers do not get the same.
func TestDerivedNames(t *testing.T) {
	seen := make(map[string]string)
	for _, raw := range []string{
		"https://a.b", "https://gcp-oidc.example.com", "https://10.0.0.1", "https://[2001:db8::1]", "https://9.example.com",
		"https://oidc.example.com/" + strings.Repeat("a", 100) + "/1", "https://oidc.example.com/" + strings.Repeat("a", 100) + "/2",
	} {
		f := facts(t, raw)
		f.Namespace, f.ServiceAccount = strings.Repeat("n", 40), strings.Repeat("s.t", 18)+"u"
		g := &trust.GCP{Facts: f}
		for _, s := range []trust.Setup{&trust.AWS{Facts: f}, g, &trust.Azure{Facts: f, ResourceGroup: "a"}, &trust.Vault{Facts: f}} {
			for _, format := range []string{"cli", "terraform"} {
				if text, err := trust.Render(s, format); err != nil {
					t.Errorf("%s for %s: %v", s.Target().Name, raw, err)
				} else {
					examine(t, format, string(text))
				}
			}
		}
		if other := seen[g.Pool]; other != "" {
			t.Errorf("%s and %s have the pool %s", raw, other, g.Pool)
		}
		seen[g.Pool] = raw
	}
}
