// Package discovery holds the provider metadata of OpenID Connect Discovery
// 1.0: what an issuer URL may look like, where its documents stand, and the
// metadata document itself.
package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// WellKnown is the path that a relying party appends to an issuer (OpenID
// Connect Discovery 1.0, section 4).
const WellKnown = "/.well-known/openid-configuration"

// JWKSPath is where the key set stands below an issuer. It is the path that
// kube-apiserver itself uses.
const JWKSPath = "/openid/v1/jwks"

// An Issuer is a valid issuer URL. Relying parties compare it byte for byte,
// so it is kept as it was written, never normalised. The zero value is not
// valid: [ParseIssuer] makes one.
type Issuer struct {
	raw string
	url *url.URL
}

// ParseIssuer checks raw against OpenID Connect Core 1.0, section 2 (iss): an
// https URL without user information, query or fragment. A loopback host may
// use http, for trying things out.
func ParseIssuer(raw string) (Issuer, error) {
	u, err := checkIssuer(raw)
	if err != nil {
		return Issuer{}, fmt.Errorf("issuer %q: %w", raw, err)
	}
	return Issuer{raw: raw, url: u}, nil
}

func checkIssuer(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, errors.New("empty (hint: give the https URL that stands in the iss claim of the tokens)")
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, errors.New("white space and characters outside ASCII are not allowed (hint: use punycode for the host, percent-encoding for the path)")
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The cause of a url.Error alone; its text quotes the URL again.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, err
	}
	switch {
	case u.Host == "" || u.Hostname() == "":
		return nil, errors.New("no host (hint: an issuer looks like https://oidc.example.com)")
	case u.User != nil:
		return nil, errors.New("user information is not allowed")
	case strings.ContainsAny(raw, "?#"):
		return nil, errors.New("query and fragment are not allowed")
	case u.Scheme == "http" && !Loopback(u.Hostname()):
		return nil, errors.New("http is for loopback hosts only (hint: use https)")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("scheme %q (hint: use https)", u.Scheme)
	case strings.Contains("."+strings.TrimSuffix(u.Hostname(), ".")+".", ".."):
		return nil, fmt.Errorf("host %q has an empty label", u.Hostname())
	case strings.Contains(u.Path, WellKnown):
		return nil, fmt.Errorf("this is the address of a discovery document (hint: leave %s out)", WellKnown)
	case strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), JWKSPath):
		return nil, fmt.Errorf("this is the address of a key set (hint: leave %s out)", JWKSPath)
	case strings.Contains(u.Path, "//"):
		return nil, errors.New("the path must not have //: some clients make / of it")
	}
	for _, segment := range strings.Split(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, errors.New("the path must not have . or .. segments: clients resolve them away")
		}
	}
	return u, nil
}

// Loopback reports whether host, without a port, names this machine.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// String is the issuer exactly as it was parsed.
func (i Issuer) String() string { return i.raw }

// URL is a copy of the parsed form.
func (i Issuer) URL() url.URL { return *i.url }

// Warnings says, a sentence each, which relying parties will not accept an
// issuer that is valid all the same.
func (i Issuer) Warnings() []string {
	var warnings []string
	warn := func(format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf("issuer %q: ", i.raw)+fmt.Sprintf(format, args...))
	}
	if strings.HasSuffix(i.raw, "/") {
		warn("ends with a slash: AWS STS and Entra ID compare it byte for byte with a URL that is mostly typed without one, and relying parties that append %s to it ask for a path with //", WellKnown)
	}
	if i.url.Port() != "" {
		warn("has a port: AWS STS does not accept one")
	}
	if host, _, _ := strings.Cut(strings.TrimPrefix(i.raw, i.url.Scheme+"://"), "/"); strings.ToLower(host) != host ||
		strings.ToLower(i.url.Path) != i.url.Path {
		warn("has upper case letters: AWS STS, Entra ID, Envoy and go-oidc compare it byte for byte, so whoever types it in lower case is refused")
	}
	if len(i.raw) > 255 {
		warn("has %d characters: AWS IAM takes at most 255, Entra ID 600", len(i.raw))
	}
	return warnings
}

// ConfigurationURL is where relying parties look for the metadata.
func (i Issuer) ConfigurationURL() string { return strings.TrimSuffix(i.raw, "/") + WellKnown }

// JWKSURI is the jwks_uri of an issuer that serves its own key set.
func (i Issuer) JWKSURI() string { return strings.TrimSuffix(i.raw, "/") + JWKSPath }

// ConfigurationPaths are the paths of all requests that ask for the metadata:
// the one of section 4, the same for clients that leave the issuer's slash in
// or put a second one, and the form of RFC 8414, section 3.1, which puts the
// issuer's own path behind the well-known one.
func (i Issuer) ConfigurationPaths() []string {
	base := strings.TrimSuffix(i.url.Path, "/")
	paths := []string{base + WellKnown, base + "/" + WellKnown}
	if base == "" {
		return paths
	}
	paths = append(paths, WellKnown+base)
	if base != i.url.Path {
		paths = append(paths, WellKnown+i.url.Path)
	}
	return paths
}

// JWKSPaths are the paths of all requests that ask for the key set.
func (i Issuer) JWKSPaths() []string {
	base := strings.TrimSuffix(i.url.Path, "/")
	return []string{base + JWKSPath, base + "/" + JWKSPath}
}

// Place is the same for two issuers if they would answer the same requests:
// ports, and the case of the host, do not tell them apart.
func (i Issuer) Place() string {
	return Hostname(i.url.Host) + strings.TrimSuffix(i.url.Path, "/")
}

// Hostname is a Host header field (RFC 9110, section 7.2) without its port, in
// lower case.
func Hostname(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
