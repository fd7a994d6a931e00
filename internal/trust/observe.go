package trust

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"

	"oidc-provider/internal/check"
	"oidc-provider/internal/hint"
)

// Parties returns the relying parties that the issuer is judged for before s is
// printed. s was validated.
func Parties(s Setup) []string {
	switch s := s.(type) {
	case *GCP:
		if s.Copied() { // only the one who makes the copy needs to reach the issuer
			return []string{"gcp", "go-oidc"}
		}
	case *Generic:
		return []string{"go-oidc"}
	}
	return []string{s.Target().Name}
}

// Findings returns the warnings and failures of a report for [Parties] that matter
// to s.
func Findings(s Setup, report *check.Report) (findings []check.Result) {
	gcp, _ := s.(*GCP)
	for _, r := range report.Findings() {
		if gcp == nil || !gcp.Copied() || r.Concerns("go-oidc") || r.Keys {
			findings = append(findings, r)
		}
	}
	return findings
}

// AsksIssuer reports whether the relying party fetches the documents at the URL of
// the issuer. Otherwise the issuer need not be reachable from here either.
func AsksIssuer(s Setup) bool {
	k, ok := s.(*Kubernetes)
	return !ok || k.DiscoveryURL == ""
}

// WideAccess returns a warning about a set-up in which no ServiceAccount was
// chosen: who gets access then.
func WideAccess(s Setup, format string) error {
	const narrow = "{option.serviceAccount} NAME gives access to one ServiceAccount only"
	f := s.facts()
	if k, ok := s.(*Kubernetes); ok && !k.Only && format != "pod" {
		return hint.Errorf(narrow, "every ServiceAccount of %s gets access", f.Issuer)
	}
	return hint.Errorf(narrow, "every Pod in the namespace %s that names no ServiceAccount uses %s, which gets access",
		f.Namespace, f.ServiceAccount)
}

// Observe takes the facts that s needs from a report about its issuer, and returns
// warnings. If the report is not authentic, it takes none, since they would be
// trusted permanently.
func Observe(s Setup, report *check.Report) (warnings []error) {
	if !report.Authentic() {
		return []error{hint.Errorf("{option.caFile} FILE if the CA is private",
			"the keys, the jwks_uri and the certificates may come from an attacker, and are not used")}
	}
	f := s.facts()
	f.JWKSURI, f.Keys = report.Seen.KeySet.URL, report.Seen.Keys()
	if a, ok := s.(*AWS); ok && a.Private() {
		if a.Thumbprints, warnings = thumbprints(report.Seen); a.Thumbprints == nil {
			warnings = append(warnings,
				errors.New("the thumbprint of the private CA is missing, because no certificate was seen"))
		}
	}
	return warnings
}

// thumbprints returns the thumbprints for the servers of both documents, each
// once.
func thumbprints(seen *check.Observation) (all []string, warnings []error) {
	for _, d := range []*check.Document{&seen.Discovery, &seen.KeySet} {
		for i := range d.Answers {
			chain := d.Answers[i].Chain
			print := Thumbprint(chain)
			if print == "" || slices.Contains(all, print) {
				continue
			}
			all = append(all, print)
			if len(chain) == 1 {
				warnings = append(warnings, hint.Errorf("let the server send the chain of its CA as well",
					"%s sends only its own certificate, so AWS IAM needs the thumbprint of each new one", d.URL))
			}
		}
	}
	return all, warnings
}

// Thumbprint returns what identifies a server with a private CA in IAM: the SHA-1
// of the last certificate of the chain that the server sends.
func Thumbprint(chain []*x509.Certificate) string {
	if len(chain) == 0 {
		return ""
	}
	sum := sha1.Sum(chain[len(chain)-1].Raw)
	return hex.EncodeToString(sum[:])
}
