// Package trust prints what makes a relying party trust an issuer: commands,
// Terraform, configuration, and the Pod that uses the trust.
//
// It turns facts into text and asks nobody: fill a [Setup] such as [AWS] with
// what is wanted and what was seen of the issuer, and [Render] it. The texts
// stand in templates, one a file, called TARGET.FORMAT: another relying party is
// a type and its templates.
package trust

import (
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
)

// Facts are what every set-up is made from. Keys, JWKSURI and CA are what was
// seen of the issuer, the rest is what somebody wants.
type Facts struct {
	Issuer discovery.Issuer
	// Namespace and ServiceAccount name whom the relying party lets in.
	Namespace, ServiceAccount string
	// Audience of the tokens, which names the relying party. Empty means the
	// usual one.
	Audience string
	// JWKSURI is that of the issuer's configuration, empty if nobody has seen it.
	JWKSURI string
	// Keys are the published ones that can be used. Only copies need them.
	Keys []jwks.PublicKey
	// CA is the PEM of the private CA that the issuer's certificates are from,
	// empty if everybody knows their CA.
	CA []byte
}

// A Target is a kind of relying party.
type Target struct {
	Name    string   // as in package check
	Formats []string // that it can be printed in, the usual one first
	// Audience of its tokens, unless another is wanted. Empty means that there
	// is no usual one.
	Audience string
}

// A Setup is a [Target] with everything that its texts say. Its exported
// fields and methods are what templates may use.
type Setup interface {
	Target() Target
	facts() *Facts
	// fill sets what is empty and follows from the rest, and refuses what
	// cannot be printed in a format. What was seen need not be there yet.
	fill(format string) error
	// ready refuses what lacks something that was to be seen.
	ready(format string) error
}

// Validate sets in s what is empty and has a default, and says what nobody
// could make a set-up from, before the issuer has been asked for anything. An
// empty format is the usual one.
func Validate(s Setup, format string) error {
	f := s.facts()
	if f.Audience == "" {
		f.Audience = s.Target().Audience
	}
	format, err := formatOf(s.Target(), format)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	return s.fill(format)
}

// formatOf is what stands behind format: yaml is a Pod where nothing else is YAML.
func formatOf(t Target, format string) (string, error) {
	switch {
	case format == "":
		return t.Formats[0], nil
	case slices.Contains(t.Formats, format):
		return format, nil
	case format == "yaml":
		return "pod", nil
	}
	return "", fmt.Errorf("--format %q: %s can be printed as %s", format, t.Name, strings.Join(t.Formats, ", "))
}

// Render validates s and prints it.
func Render(s Setup, format string) ([]byte, error) {
	if err := Validate(s, format); err != nil {
		return nil, err
	}
	format, err := formatOf(s.Target(), format)
	if err != nil {
		return nil, err
	}
	if err := s.ready(format); err != nil {
		return nil, err
	}
	text, err := execute(s.Target().Name+"."+format, s)
	if err != nil {
		return nil, err
	}
	if format == "terraform" {
		text = hclwrite.Format(text)
	}
	return text, nil
}

func (f *Facts) facts() *Facts { return f }

func (f *Facts) ready(string) error { return nil }

// Subject is the sub of the ServiceAccount's tokens.
func (f *Facts) Subject() string {
	return "system:serviceaccount:" + f.Namespace + ":" + f.ServiceAccount
}

// TokenAudience is what the Pod's tokens are for.
func (f *Facts) TokenAudience() string { return f.Audience }

// Private reports whether the issuer's certificates are from a private CA.
func (f *Facts) Private() bool { return len(f.CA) > 0 }

// PEM is the private CA.
func (f *Facts) PEM() string { return string(f.CA) }

// PEMKeys are the keys as PKIX in PEM, which has no kid.
func (f *Facts) PEMKeys() []string {
	var keys []string
	for _, k := range f.Keys {
		keys = append(keys, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.PKIX()})))
	}
	return keys
}

// KIDs name the keys.
func (f *Facts) KIDs() []string { return kids(f.Keys) }

func kids(keys []jwks.PublicKey) []string {
	var all []string
	for _, k := range keys {
		all = append(all, k.KeyID())
	}
	return all
}

// Algorithms are those of the keys.
func (f *Facts) Algorithms() []string {
	var algorithms []string
	for _, k := range f.Keys {
		algorithms = append(algorithms, string(k.Algorithm()))
	}
	slices.Sort(algorithms)
	return slices.Compact(algorithms)
}

// account is a name for the ServiceAccount where a relying party wants one. No
// name of Kubernetes has an underscore, so no two have the same.
func (f *Facts) account() string { return f.Namespace + "_" + f.ServiceAccount }
