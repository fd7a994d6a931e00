// Package trust prints what makes a relying party trust an issuer: commands,
// Terraform, configuration, and the Pod that uses the trust.
//
// It turns facts into text and sends no requests: fill a [Setup] such as [AWS]
// with what is wanted, let it [Observe] a report about the issuer, and [Render] it.
// The texts
// are templates, one in each file, called TARGET.FORMAT: another relying party is
// a type and its templates.
//
// The hints of errors name an option in braces, as package hint describes:
// {option.roleName} is the field RoleName.
package trust

import (
	"encoding/pem"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// Facts are what every set-up is made from. Keys, JWKSURI and CA were seen of the
// issuer, the rest was chosen.
type Facts struct {
	Issuer discovery.Issuer
	// Namespace and ServiceAccount name the ServiceAccount that gets access.
	Namespace, ServiceAccount string
	// Audience of the tokens, which names the relying party. Empty means the
	// usual one.
	Audience string
	// JWKSURI is the one in the discovery document, empty if unknown.
	JWKSURI string
	// Keys are the published keys that can be used. Only copies need them.
	Keys []jwks.PublicKey
	// CA is the PEM of the private CA of the issuer's certificates, empty if
	// their CA is public.
	CA []byte
}

// A Target is a kind of relying party.
type Target struct {
	Name    string   // of the command and the templates
	Formats []string // the usual one first
	// Audience of its tokens, unless another is chosen. Empty means that there
	// is not a usual one.
	Audience string
}

// A Setup is a [Target] with everything that its texts say. Its exported
// fields and methods are what templates may use.
type Setup interface {
	Target() Target
	facts() *Facts
	// fill sets empty fields that follow from others, and refuses what cannot
	// be printed in a format. The facts about the issuer may still be missing.
	fill(format string) error
	// ready refuses a set-up that lacks a fact about the issuer.
	ready(format string) error
}

// Validate sets the defaults in s, and refuses invalid values, before the issuer
// has been asked for anything. An empty format is the usual one.
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

// formatOf resolves a format: yaml is a Pod unless another format is YAML.
func formatOf(t Target, format string) (string, error) {
	switch {
	case format == "":
		return t.Formats[0], nil
	case slices.Contains(t.Formats, format):
		return format, nil
	case format == "yaml":
		return "pod", nil
	}
	return "", hint.Errorf("{option.format} takes "+strings.Join(t.Formats, ", "),
		"%s cannot be printed as %q", t.Name, format)
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

// Subject returns the sub of the ServiceAccount's tokens.
func (f *Facts) Subject() string {
	return "system:serviceaccount:" + f.Namespace + ":" + f.ServiceAccount
}

// TokenAudience returns the audience of the Pod's tokens.
func (f *Facts) TokenAudience() string { return f.Audience }

// Private reports whether the issuer's certificates are from a private CA.
func (f *Facts) Private() bool { return len(f.CA) > 0 }

// PEM returns the private CA.
func (f *Facts) PEM() string { return string(f.CA) }

// PEMKeys returns the keys as PKIX in PEM, which has no kid.
func (f *Facts) PEMKeys() []string {
	var keys []string
	for _, k := range f.Keys {
		keys = append(keys, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.PKIX()})))
	}
	return keys
}

// KIDs returns the kids of the keys.
func (f *Facts) KIDs() []string { return kids(f.Keys) }

func kids(keys []jwks.PublicKey) []string {
	var all []string
	for _, k := range keys {
		all = append(all, k.KeyID())
	}
	return all
}

// Algorithms returns the algorithms of the keys.
func (f *Facts) Algorithms() []string {
	var algorithms []string
	for _, k := range f.Keys {
		algorithms = append(algorithms, string(k.Algorithm()))
	}
	slices.Sort(algorithms)
	return slices.Compact(algorithms)
}

// account returns a name for the ServiceAccount in a relying party. Names in
// Kubernetes have no underscore, so no two ServiceAccounts get the same.
func (f *Facts) account() string { return f.Namespace + "_" + f.ServiceAccount }
