package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"oidc-provider/internal/hint"
)

func (f *Facts) check() (err error) {
	if f.Issuer.String() == "" {
		return hint.Errorf("set {issuer} to the one whose tokens are to be trusted", "the issuer is missing")
	}
	if wrong := validation.IsDNS1123Label(f.Namespace); len(wrong) > 0 {
		return hint.Errorf("check {option.namespace}", "namespace %q: %s", f.Namespace, wrong[0])
	}
	if wrong := validation.IsDNS1123Subdomain(f.ServiceAccount); len(wrong) > 0 {
		return hint.Errorf("check {option.serviceAccount}", "ServiceAccount %q: %s", f.ServiceAccount, wrong[0])
	}
	if err := match("audience", f.Audience, audiences, "a name or a URI of at most 255 characters"); err != nil {
		return err
	}
	f.CA, err = certificates("caFile", f.CA)
	return err
}

// needAudience refuses an empty audience, for relying parties without a usual one.
func (f *Facts) needAudience() error {
	if f.Audience == "" {
		return hint.Errorf("set {option.audience} to a name for the relying party",
			"the audience is missing: it prevents that tokens for other relying parties pass")
	}
	return nil
}

// audiences are names and URIs (RFC 3986, section 2). Commas are not allowed: half
// of the relying parties' tools would read two audiences. The first character
// cannot start an option or the name of a file (@FILE).
var audiences = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9._~:/?#@!$&'()*+;=%-]{0,254}$`)

// match refuses the value of an option that does not match pattern; form
// describes the pattern. Empty values pass.
func match(option, value string, pattern *regexp.Regexp, form string) error {
	if value == "" || pattern.MatchString(value) {
		return nil
	}
	return hint.Errorf("{option."+option+"} takes "+form, "%s %q is not valid", words(option), value)
}

var upperCase = regexp.MustCompile(`[A-Z]`)

// words returns the name of an option as words.
func words(option string) string { return strings.ToLower(upperCase.ReplaceAllString(option, " $0")) }

// certificates returns only the certificates in data, so that a private file that
// was named by mistake is never printed.
func certificates(option string, data []byte) ([]byte, error) {
	var tidy bytes.Buffer
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return data, hint.Wrap(fmt.Errorf("reading certificates: %w", err), "check {option."+option+"}")
		}
		pem.Encode(&tidy, &pem.Block{Type: block.Type, Bytes: block.Bytes})
	}
	if len(data) > 0 && tidy.Len() == 0 {
		return data, hint.Errorf("check {option."+option+"}", "reading certificates: no certificate in PEM form")
	}
	return tidy.Bytes(), nil
}

// needHTTPS refuses an issuer that is not https.
func (f *Facts) needHTTPS(party string) error {
	if u := f.Issuer.URL(); u.Scheme != "https" {
		return fmt.Errorf("issuer %s: %s trusts only https issuers", f.Issuer, party)
	}
	return nil
}

// shorten cuts s to limit bytes, so that two long names still differ.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return s[:limit-9] + "-" + hex.EncodeToString(sum[:4])
}

var notWord = regexp.MustCompile(`[^a-z0-9]+`)

// slug returns s in lower case letters, digits and sep, with a letter first.
func slug(s, sep string) string {
	s = strings.Trim(notWord.ReplaceAllString(strings.ToLower(s), sep), sep)
	if s == "" || s[0] < 'a' {
		s = "oidc" + sep + s
	}
	return s
}

// Label returns the name of the issuer in Terraform.
func (f *Facts) Label() string { return slug(f.host(), "_") }

// AccountLabel returns the name of the ServiceAccount in Terraform.
func (f *Facts) AccountLabel() string { return slug(f.account(), "_") }

// host returns the issuer without its scheme.
func (f *Facts) host() string {
	_, host, _ := strings.Cut(f.Issuer.String(), "://")
	return host
}
