package trust_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"oidc-provider/internal/check"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/trust"
)

// observation is of an issuer whose documents are on two servers: one sends a
// chain, the other only its own certificate.
func observation() *check.Observation {
	chain := []*x509.Certificate{{Raw: []byte("leaf")}, {Raw: []byte("ca")}}
	seen := new(check.Observation)
	seen.Discovery.Answers = []check.Answer{{Chain: chain}, {Chain: chain}, {}}
	seen.KeySet.URL = "https://keys.example.com/jwks"
	seen.KeySet.Answers = []check.Answer{{Chain: chain[:1]}}
	return seen
}

func texts(warnings []error) string {
	var all []string
	for _, w := range warnings {
		all = append(all, hint.Text(w, hint.Field))
	}
	return strings.Join(all, "\n")
}

func TestObserve(t *testing.T) {
	seen := observation()
	private := &trust.AWS{Facts: trust.Facts{CA: []byte("PEM")}}
	warnings := texts(trust.Observe(private, &check.Report{Seen: seen}))
	want := []string{trust.Thumbprint(seen.Discovery.Answers[0].Chain), trust.Thumbprint(seen.KeySet.Answers[0].Chain)}
	if !slices.Equal(private.Thumbprints, want) || private.JWKSURI != seen.KeySet.URL {
		t.Errorf("thumbprints %v and %s, want %v and %s", private.Thumbprints, private.JWKSURI, want, seen.KeySet.URL)
	}
	if !strings.Contains(warnings, "https://keys.example.com/jwks sends only its own certificate") {
		t.Errorf("warnings: %s", warnings)
	}

	public := new(trust.AWS)
	if w := trust.Observe(public, &check.Report{Seen: seen}); w != nil || public.Thumbprints != nil {
		t.Errorf("with a public CA: %v, thumbprints %v", w, public.Thumbprints)
	}

	blind := &trust.AWS{Facts: trust.Facts{CA: []byte("PEM")}}
	if w := texts(trust.Observe(blind, &check.Report{Seen: new(check.Observation)})); !strings.Contains(w, "thumbprint") {
		t.Errorf("no certificate was seen: %q", w)
	}
}

// Nothing is taken from what an attacker may have sent.
func TestObserveDistrusts(t *testing.T) {
	report := &check.Report{Seen: observation(), Results: []check.Result{
		{Check: "discovery/certificate", Status: check.Fail, Traits: check.Traits{Authenticates: true}},
	}}
	a := &trust.AWS{Facts: trust.Facts{CA: []byte("PEM")}}
	warnings := texts(trust.Observe(a, report))
	if a.Thumbprints != nil || a.JWKSURI != "" || a.Keys != nil || !strings.Contains(warnings, "attacker") {
		t.Errorf("took %v, %q and %v; warnings: %s", a.Thumbprints, a.JWKSURI, a.Keys, warnings)
	}
}

// If Google has a copy of the keys, only what concerns the keys, or go-oidc, which
// makes the copy like this command, decides.
func TestPartiesAndFindings(t *testing.T) {
	report := &check.Report{Results: []check.Result{
		{Check: "google", Status: check.Fail, For: []string{"gcp"}},
		{Check: "keys", Status: check.Fail, For: []string{"gcp"}, Traits: check.Traits{Keys: true}},
		{Check: "answer", Status: check.Fail, For: []string{"gcp", "go-oidc"}},
		{Check: "good", Status: check.Pass},
	}}
	copied := &trust.GCP{KeysFrom: trust.KeysCopy}
	for _, tt := range []struct {
		name              string
		setup             trust.Setup
		parties, findings []string
	}{
		{"a copy", copied, []string{"gcp", "go-oidc"}, []string{"answer", "keys"}},
		{"no copy", new(trust.GCP), []string{"gcp"}, []string{"answer", "google", "keys"}},
		{"aws", new(trust.AWS), []string{"aws"}, []string{"answer", "google", "keys"}},
		{"generic", new(trust.Generic), []string{"go-oidc"}, []string{"answer", "google", "keys"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var findings []string
			for _, r := range trust.Findings(tt.setup, report) {
				findings = append(findings, r.Check)
			}
			slices.Sort(findings)
			if got := trust.Parties(tt.setup); !slices.Equal(got, tt.parties) || !slices.Equal(findings, tt.findings) {
				t.Errorf("judged for %v by %v, want %v by %v", got, findings, tt.parties, tt.findings)
			}
			for _, party := range tt.parties {
				if _, ok := check.PartyByName(party); !ok {
					t.Errorf("no relying party is called %s", party)
				}
			}
		})
	}
	for name, w := range wanted(t) {
		for _, party := range trust.Parties(w.setup) {
			if _, ok := check.PartyByName(party); !ok {
				t.Errorf("%s is judged for %s, which is not a relying party", name, party)
			}
		}
	}
}

func TestWideAccess(t *testing.T) {
	f := facts(t, "https://oidc.example.com")
	f.Namespace, f.ServiceAccount = "shop", "default"
	for _, tt := range []struct {
		name   string
		setup  trust.Setup
		format string
		want   string
	}{
		{"kubernetes", &trust.Kubernetes{Facts: f}, "yaml", "every ServiceAccount of https://oidc.example.com gets access"},
		{"its Pod", &trust.Kubernetes{Facts: f}, "pod", "every Pod in the namespace shop that names no ServiceAccount uses default"},
		{"aws", &trust.AWS{Facts: f}, "cli", "every Pod in the namespace shop"},
	} {
		if w := trust.WideAccess(tt.setup, tt.format); !strings.Contains(w.Error(), tt.want) || hint.Of(w) == "" {
			t.Errorf("%s: got %v, want %q with a hint", tt.name, w, tt.want)
		}
	}
	if trust.AsksIssuer(&trust.Kubernetes{DiscoveryURL: "https://b.example.com"}) || !trust.AsksIssuer(new(trust.Kubernetes)) {
		t.Error("an API server asks the issuer unless it has another URL for the documents")
	}
}
