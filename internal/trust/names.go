package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

func (f *Facts) check() (err error) {
	if f.Issuer.String() == "" {
		return errors.New("--issuer is required: the one whose tokens are to be trusted")
	}
	if wrong := validation.IsDNS1123Label(f.Namespace); len(wrong) > 0 {
		return fmt.Errorf("--namespace %q: %s", f.Namespace, wrong[0])
	}
	if wrong := validation.IsDNS1123Subdomain(f.ServiceAccount); len(wrong) > 0 {
		return fmt.Errorf("--service-account %q: %s", f.ServiceAccount, wrong[0])
	}
	if err := match("audience", f.Audience, audiences, "it is a name or a URI of at most 255 characters"); err != nil {
		return err
	}
	f.CA, err = certificates("ca-file", f.CA)
	return err
}

// needAudience is for relying parties that have no usual one.
func (f *Facts) needAudience() error {
	if f.Audience == "" {
		return errors.New("--audience is required: it names the relying party, so that no token for another one passes there")
	}
	return nil
}

// audiences are names and URIs (RFC 3986, section 2). Commas are out: half of
// the relying parties' tools read two audiences there. What comes first cannot
// be the beginning of an option, or of a file's name (@FILE).
var audiences = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9._~:/?#@!$&'()*+;=%-]{0,254}$`)

// match refuses a value that is not of the form of pattern. Empty ones pass.
func match(flag, value string, pattern *regexp.Regexp, hint string) error {
	if value == "" || pattern.MatchString(value) {
		return nil
	}
	return fmt.Errorf("--%s %q cannot be right (hint: %s)", flag, value, hint)
}

// certificates leaves nothing in data but certificates: no file that was meant
// to stay here goes out instead of a CA.
func certificates(flag string, data []byte) ([]byte, error) {
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
			return data, fmt.Errorf("--%s: %w", flag, err)
		}
		pem.Encode(&tidy, &pem.Block{Type: block.Type, Bytes: block.Bytes})
	}
	if len(data) > 0 && tidy.Len() == 0 {
		return data, fmt.Errorf("--%s: no certificate in PEM in it", flag)
	}
	return tidy.Bytes(), nil
}

// needHTTPS is for relying parties that take no other issuer.
func (f *Facts) needHTTPS(party string) error {
	if u := f.Issuer.URL(); u.Scheme != "https" {
		return fmt.Errorf("issuer %s: %s trusts https issuers only", f.Issuer, party)
	}
	return nil
}

// shorten cuts s, such that two long names differ still.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return s[:limit-9] + "-" + hex.EncodeToString(sum[:4])
}

var notWord = regexp.MustCompile(`[^a-z0-9]+`)

// slug is s in small letters, digits and sep, with a letter first.
func slug(s, sep string) string {
	s = strings.Trim(notWord.ReplaceAllString(strings.ToLower(s), sep), sep)
	if s == "" || s[0] < 'a' {
		s = "oidc" + sep + s
	}
	return s
}

// Label is what the issuer is called in Terraform.
func (f *Facts) Label() string { return slug(f.host(), "_") }

// AccountLabel is what the ServiceAccount is called in Terraform.
func (f *Facts) AccountLabel() string { return slug(f.account(), "_") }

// host is the issuer without its scheme.
func (f *Facts) host() string {
	_, host, _ := strings.Cut(f.Issuer.String(), "://")
	return host
}
