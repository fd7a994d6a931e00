// Package discovery implements the provider side of OpenID Connect Discovery 1.0:
// the rules for issuer URLs, the paths of the documents, and the discovery
// document itself.
package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// WellKnown is the path that relying parties append to an issuer (OpenID Connect
// Discovery 1.0, section 4).
const WellKnown = "/.well-known/openid-configuration"

// JWKSPath is the path of the key set below an issuer, the same as in
// kube-apiserver.
const JWKSPath = "/openid/v1/jwks"

// An Issuer is a valid issuer URL. Relying parties compare it byte for byte, so it
// is never normalised. The zero value is not valid; [ParseIssuer] returns one.
type Issuer struct {
	raw string
	url *url.URL
}

// ParseIssuer returns raw as an Issuer, or an error if it breaks the rules of
// OpenID Connect Core 1.0, section 2 (iss): an https URL without user
// information, query or fragment. A loopback host may use http, for tests.
func ParseIssuer(raw string) (Issuer, error) {
	u, err := checkIssuer(raw)
	if err != nil {
		return Issuer{}, fmt.Errorf("issuer %q: %w", raw, err)
	}
	return Issuer{raw: raw, url: u}, nil
}

func checkIssuer(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, withHint(errors.New("empty"), "use the https URL in the iss claim of the tokens")
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, withHint(errors.New("white space and characters outside ASCII are not allowed"),
			"use punycode for the host and percent-encoding for the path")
	}
	u, err := url.Parse(raw)
	if err != nil {
		// Only the cause of a url.Error; its text quotes the URL again.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, err
	}
	switch {
	case u.Host == "" || u.Hostname() == "":
		return nil, withHint(errors.New("no host"), "use a URL like https://oidc.example.com")
	case u.User != nil:
		return nil, errors.New("user information is not allowed")
	case strings.ContainsAny(raw, "?#"):
		return nil, errors.New("query and fragment are not allowed")
	case u.Scheme == "http" && !Loopback(u.Hostname()):
		return nil, withHint(errors.New("http is only for loopback hosts"), "use https")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, withHint(fmt.Errorf("unknown scheme %q", u.Scheme), "use https")
	case strings.Contains(u.Path, WellKnown):
		return nil, withHint(errors.New("this is the URL of a discovery document"), "remove "+WellKnown)
	case strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), JWKSPath):
		return nil, withHint(errors.New("this is the URL of a key set"), "remove "+JWKSPath)
	case strings.Contains(u.Path, "//"):
		return nil, errors.New("the path must not have //: some clients replace it by /")
	}
	if err := checkHost(u); err != nil {
		return nil, err
	}
	for _, segment := range strings.Split(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, errors.New("the path must not have . or .. segments: clients resolve them")
		}
	}
	return u, nil
}

// A hinted error has a hint: what its reader can do about it.
type hinted struct {
	error
	hint string
}

func withHint(err error, hint string) error { return &hinted{err, hint} }

// Hint returns what to do about the error.
func (e *hinted) Hint() string { return e.hint }

// Loopback reports whether host, without a port, is this machine.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// String returns the issuer exactly as it was parsed.
func (i Issuer) String() string { return i.raw }

// URL returns a copy of the parsed form.
func (i Issuer) URL() url.URL { return *i.url }

// Warnings returns a sentence for each reason why some relying parties do not
// accept an issuer that is valid.
func (i Issuer) Warnings() []string {
	var warnings []string
	warn := func(format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf("issuer %q: ", i.raw)+fmt.Sprintf(format, args...))
	}
	if strings.HasSuffix(i.raw, "/") {
		warn("ends with a slash: AWS STS and Entra ID compare it byte for byte with a URL that is usually typed "+
			"without one, and relying parties that append %s to it request a path with //", WellKnown)
	}
	if w := hostWarning(i.url.Hostname()); w != "" {
		warn("%s", w)
	}
	if i.url.Port() != "" {
		warn("has a port: AWS STS does not accept one")
	}
	if host, _, _ := strings.Cut(strings.TrimPrefix(i.raw, i.url.Scheme+"://"), "/"); strings.ToLower(host) != host ||
		strings.ToLower(i.url.Path) != i.url.Path {
		warn("has upper case letters: AWS STS, Entra ID, Envoy and go-oidc compare it byte for byte, " +
			"so the same URL in lower case is refused")
	}
	if len(i.raw) > 255 {
		warn("has %d characters: AWS IAM takes at most 255, Entra ID 600", len(i.raw))
	}
	return warnings
}

// DiscoveryURL returns the URL of the discovery document.
func (i Issuer) DiscoveryURL() string { return strings.TrimSuffix(i.raw, "/") + WellKnown }

// JWKSURI returns the jwks_uri of an issuer that serves its own key set.
func (i Issuer) JWKSURI() string { return strings.TrimSuffix(i.raw, "/") + JWKSPath }

// DiscoveryPaths returns the paths of all requests for the discovery document:
// the path of section 4, the same with a second slash for clients that do not
// remove the issuer's own, and the form of RFC 8414, section 3.1, in which the
// path of the issuer follows the well-known one.
func (i Issuer) DiscoveryPaths() []string {
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

// JWKSPaths returns the paths of all requests for the key set.
func (i Issuer) JWKSPaths() []string {
	base := strings.TrimSuffix(i.url.Path, "/")
	return []string{base + JWKSPath, base + "/" + JWKSPath}
}

// Route returns the same text for two issuers if they answer the same requests.
// Ports and the case of the host make no difference.
func (i Issuer) Route() string {
	return Hostname(i.url.Host) + strings.TrimSuffix(i.url.Path, "/")
}

// Hostname returns a Host header field (RFC 9110, section 7.2) without its port,
// in lower case.
func Hostname(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
