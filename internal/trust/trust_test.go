package trust_test

import (
	"crypto/x509"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/trust"
	"oidc-provider/jwks"
)

var update = flag.Bool("update", false, "write the golden files anew")

// wanted are set-ups, and the formats of each that have a golden file.
func wanted(t testing.TB) map[string]struct {
	setup   trust.Setup
	formats []string
} {
	public := facts(t, "https://oidc.example.com/clusters/a")
	private := public
	private.CA = testCA(t)
	type s = struct {
		setup   trust.Setup
		formats []string
	}
	withAudience := func(f trust.Facts, audience string) trust.Facts {
		f.Audience = audience
		return f
	}
	everything := []string{"cli", "terraform", "pod"}
	setUp := []string{"cli", "terraform"}
	return map[string]s{
		"aws": {&trust.AWS{Facts: public, Account: "123456789012"}, everything},
		"aws-private": {&trust.AWS{
			Facts: private, RoleName: "till", Region: "us-gov-west-1", Account: "123456789012",
			Policies:    []string{"arn:aws-us-gov:iam::aws:policy/AmazonS3ReadOnlyAccess", "arn:aws-us-gov:iam::123456789012:policy/shop/till"},
			Thumbprints: []string{strings.Repeat("0123456789", 4), strings.Repeat("abcdef0123", 4)},
		}, everything},
		"gcp": {&trust.GCP{Facts: public, ProjectNumber: "123456789012"}, everything},
		"gcp-private": {&trust.GCP{
			Facts: private, Project: "shop-prod", ProjectNumber: "123456789012",
			GoogleServiceAccount: "till@shop-prod.iam.gserviceaccount.com",
		}, everything},
		"gcp-roles": {&trust.GCP{
			Facts: withAudience(public, "shop"), Project: "shop-prod", Pool: "shop", Provider: "cluster-a",
			Roles: []string{"roles/storage.objectViewer", "projects/shop-prod/roles/till"},
		}, setUp},
		"azure": {&trust.Azure{
			Facts: public, ResourceGroup: "shop", ClientID: "11111111-2222-3333-4444-555555555555", TenantID: "99999999-2222-3333-4444-555555555555",
		}, everything},
		"azure-application": {&trust.Azure{
			Facts: withAudience(public, "api://AzureADTokenExchangeUSGov"), Application: "11111111-2222-3333-4444-555555555555",
			TenantID: "99999999-2222-3333-4444-555555555555", Credential: "till",
		}, everything},
		"vault":         {&trust.Vault{Facts: public, Address: "https://vault.example.com:8200"}, everything},
		"vault-private": {&trust.Vault{Facts: private, Policies: []string{"shop/till", "read"}, TTL: 20 * time.Minute}, setUp},
		"vault-jwks":    {&trust.Vault{Facts: private, KeysFrom: trust.KeysJWKS, Path: "clusters/a", RoleName: "till"}, setUp},
		"vault-copy":    {&trust.Vault{Facts: public, KeysFrom: trust.KeysCopy, Path: "clusters/a"}, setUp},
		"kubernetes":    {&trust.Kubernetes{Facts: withAudience(public, "cluster-b"), Server: "https://api.example.com:6443"}, []string{"yaml", "pod"}},
		"kubernetes-private": {&trust.Kubernetes{
			Facts: withAudience(private, "https://b.example.com"), Only: true, Prefix: "cluster-a:", MaxTokenLifetime: time.Hour,
			DiscoveryURL: "https://oidc.internal.example.com/clusters/a/.well-known/openid-configuration",
			Server:       "https://api.example.com:6443", ServerCA: testCA(t),
		}, []string{"yaml", "pod"}},
		"generic":         {&trust.Generic{Facts: withAudience(public, "demo")}, []string{"text", "pod"}},
		"generic-private": {&trust.Generic{Facts: withAudience(private, "demo")}, []string{"text"}},
	}
}

// TestGolden renders every set-up twice, and looks at each text as the program
// that it is for would.
func TestGolden(t *testing.T) {
	for name, w := range wanted(t) {
		for _, format := range w.formats {
			t.Run(name+"."+format, func(t *testing.T) {
				text := render(t, w.setup, format)
				if again := render(t, w.setup, format); again != text {
					t.Errorf("the second time it is another:\n%s", cmp.Diff(text, again))
				}
				golden(t, name+"."+format, text)
				examine(t, format, text)
				if format == "cli" {
					for world, answers := range worlds(w.setup) {
						golden(t, name+"."+world, record(t, text, answers))
					}
				}
			})
		}
	}
}

// Every target prints every format, and says how else it is called.
func TestFormats(t *testing.T) {
	seen := make(map[string]bool)
	for _, w := range wanted(t) {
		target := w.setup.Target()
		for _, f := range w.formats {
			seen[target.Name+"."+f] = slices.Contains(target.Formats, f)
		}
		if usual, named := render(t, w.setup, ""), render(t, w.setup, target.Formats[0]); usual != named {
			t.Errorf("%s: the usual format is not the first", target.Name)
		}
		if err := trust.Validate(w.setup, "json"); err == nil || !strings.Contains(hint.Of(err), strings.Join(target.Formats, ", ")) {
			t.Errorf("%s: format json: %v", target.Name, err)
		}
	}
	templates, err := os.ReadDir("templates")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range templates {
		if !seen[f.Name()] && f.Name() != "shared" {
			t.Errorf("no golden file of %s", f.Name())
		}
	}
	vault := wanted(t)["vault"].setup
	if render(t, vault, "yaml") != render(t, vault, "pod") {
		t.Error("yaml is not the Pod")
	}
}

func TestThumbprint(t *testing.T) {
	block, _ := pem.Decode(testCA(t))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	// By openssl x509 -fingerprint -sha1.
	const want = "f4d5008772aac586cd5498cffa1aa916777501df"
	if got := trust.Thumbprint([]*x509.Certificate{{Raw: []byte("leaf")}, cert}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := trust.Thumbprint(nil); got != "" {
		t.Errorf("no chain: %s", got)
	}
}

// facts are of a ServiceAccount and of an issuer with keys of three algorithms.
func facts(t testing.TB, raw string) trust.Facts {
	t.Helper()
	issuer, err := discovery.ParseIssuer(raw)
	if err != nil {
		t.Fatal(err)
	}
	return trust.Facts{
		Issuer: issuer, Namespace: "shop", ServiceAccount: "till", JWKSURI: issuer.JWKSURI(),
		Keys: testKeys(t, "rsa-public.pem", "ec-prime256v1-public.pem", "ec-secp521r1-public.pem"),
	}
}

func testKeys(t testing.TB, names ...string) (keys []jwks.PublicKey) {
	t.Helper()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "keys", name))
		if err != nil {
			t.Fatal(err)
		}
		private, public, err := jwks.ParsePEM(data)
		if err != nil || len(private) > 0 {
			t.Fatal(name, err)
		}
		keys = append(keys, public...)
	}
	return keys
}

func testCA(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "keys", "rsa-certificate.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func render(t testing.TB, s trust.Setup, format string) string {
	t.Helper()
	text, err := trust.Render(s, format)
	if err != nil {
		t.Fatalf("%s as %q: %v", s.Target().Name, format, err)
	}
	return string(text)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (hint: -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, hint: -update):\n%s", path, diff)
	}
}

// Nothing is left over from cases that are not tested any more.
func TestNoStrayGoldenFiles(t *testing.T) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	all := wanted(t)
	for _, e := range entries {
		name, ending, _ := strings.Cut(e.Name(), ".")
		w, known := all[name]
		isCalls := slices.Contains([]string{"first", "again", "taken"}, ending) && slices.Contains(w.formats, "cli")
		if e.IsDir() || known && (isCalls || slices.Contains(w.formats, ending)) {
			continue
		}
		t.Errorf("testdata/%s is nobody's", e.Name())
	}
}
