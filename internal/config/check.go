package config

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/mirror"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// check notes what makes no sense. It looks at nothing outside of c: files and
// servers are checked when they are used, and can be repaired without a change of
// c.
func (c *Config) check(p *problems) {
	checkAddress(p, "listen", c.Listen)
	checkAddress(p, "adminListen", c.AdminListen)
	if c.Readiness != "any" && c.Readiness != "all" {
		p.addHint("any or all", "readiness", "%q", c.Readiness)
	}
	checkSeconds(p, "jwksMaxAge", c.JWKSMaxAge)
	checkSeconds(p, "discoveryMaxAge", c.DiscoveryMaxAge)
	if c.MaxConnections < 0 {
		p.add("maxConnections", "must not be negative")
	}
	if c.MaxConnectionsPerAddress < 0 {
		p.add("maxConnectionsPerAddress", "must not be negative")
	}
	if c.ShutdownDelay < 0 {
		p.add("shutdownDelay", "must not be negative")
	}
	if c.TLS != nil {
		c.TLS.check(p)
	}
	c.IssuersDirAllow.check(p)
	if len(c.Issuers) == 0 && c.IssuersDir == "" {
		p.addHint("`oidc-provider config example` shows all kinds", "issuers", "none, and no issuersDir")
	}
	seen := make(claims)
	for i := range c.Issuers {
		path := fmt.Sprintf("issuers[%d]", i)
		c.Issuers[i].check(p, path+".")
		if err := seen.claim(&c.Issuers[i]); err != nil {
			p.note(path, err)
		}
	}
}

func (t *TLS) check(p *problems) {
	switch {
	case t.ACME != nil && (t.CertFile != "" || t.KeyFile != ""):
		p.add("tls", "certFile and acme exclude each other")
	case t.ACME == nil && (t.CertFile == "" || t.KeyFile == ""):
		p.add("tls", "want both certFile and keyFile, or acme")
	}
	if t.ACME == nil {
		return
	}
	for _, challenge := range t.ACME.Challenges {
		if challenge != HTTP01 && challenge != TLSALPN01 {
			p.addHint(TLSALPN01+" or "+HTTP01, "tls.acme.challenges", "%q", challenge)
		}
	}
	switch {
	case t.ACME.answers(HTTP01):
		checkAddress(p, "tls.acme.httpListen", t.ACME.HTTPListen)
	case t.ACME.HTTPListen != "":
		p.addHint("add that to challenges", "tls.acme.httpListen", "is for the challenge %s", HTTP01)
	}
	if t.ACME.CheckInterval < Duration(time.Second) {
		p.add("tls.acme.checkInterval", "must be at least 1s")
	}
}

func (a *ACME) answers(challenge string) bool { return slices.Contains(a.Challenges, challenge) }

// check notes what makes no sense in i, whose fields have the path prefix.
func (i *Issuer) check(p *problems, prefix string) {
	if _, err := discovery.ParseIssuer(i.Issuer); err != nil {
		p.note(prefix+"issuer", err)
	}
	checkSeconds(p, prefix+"jwksMaxAge", i.JWKSMaxAge)
	checkSeconds(p, prefix+"discoveryMaxAge", i.DiscoveryMaxAge)
	var kinds []string
	for _, kind := range []struct {
		name  string
		given bool
		check func(p *problems, prefix string)
	}{
		{"managed", i.Managed != nil, func(p *problems, prefix string) { i.Managed.check(p, prefix) }},
		{"apiserver", i.APIServer != nil, func(p *problems, prefix string) { checkInterval(p, prefix, i.APIServer.Interval) }},
		{"files", i.Files != nil, func(p *problems, prefix string) { i.Files.check(p, prefix) }},
		{"url", i.URL != nil, func(p *problems, prefix string) { i.URL.check(p, prefix) }},
	} {
		if kind.given {
			kinds = append(kinds, kind.name)
			kind.check(p, prefix+kind.name+".")
		}
	}
	if len(kinds) != 1 {
		p.addHint("managed, apiserver, files or url", strings.TrimSuffix(prefix, "."),
			"has %d sources of keys, want exactly one", len(kinds))
	}
}

func (m *Managed) check(p *problems, prefix string) {
	if m.Store == "" {
		p.addHint("a directory, etcd://HOST:2379/PREFIX or secret:NAMESPACE/NAME", prefix+"store", "must be set")
	}
	policy := m.Policy.Rotation()
	if err := policy.Validate(); err != nil {
		p.note(prefix+"policy", err)
	}
	switch {
	case m.PublishOnly && m.SignerSocket != "":
		p.add(prefix+"signerSocket", "excludes publishOnly")
	case m.PublishOnly && policy != rotation.Policy{}:
		p.add(prefix+"policy", "is set by servers that rotate, not with publishOnly")
	case m.PublishOnly && m.Create:
		p.add(prefix+"create", "excludes publishOnly")
	}
	if err := m.SignerAccess().Check(m.SignerSocket); err != nil {
		p.note(prefix+"signerSocket", err)
	}
	checkSeconds(p, prefix+"refreshHint", m.RefreshHint)
}

func (f *Files) check(p *problems, prefix string) {
	checkInterval(p, prefix, f.Interval)
	if _, err := mirror.NewFiles(f.Paths); err != nil {
		p.note(prefix+"paths", err)
	}
}

func (u *URL) check(p *problems, prefix string) {
	checkInterval(p, prefix, u.Interval)
	if _, err := mirror.NewURL(u.JWKS, ""); err != nil {
		p.note(prefix+"jwks", err)
	}
}

func checkAddress(p *problems, path, address string) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		p.addHint("like 127.0.0.1:8080 or :443", path, "%q is not an address", address)
	}
}

func checkSeconds(p *problems, path string, d Duration) {
	if d < Duration(time.Second) {
		p.add(path, "%v: must be at least 1s, since it is used in whole seconds", d)
	}
}

// checkInterval keeps mirrors from overloading their sources.
func checkInterval(p *problems, prefix string, d Duration) {
	if d < Duration(100*time.Millisecond) || d > Duration(24*time.Hour) {
		p.add(prefix+"interval", "%v: want 100ms to 24h", d)
	}
}

// claims are the routes, signer sockets and stores in use, and by which issuer.
type claims map[string]string

// claim refuses an issuer that would answer the requests of another, or sign
// on the socket of another.
func (c claims) claim(i *Issuer) error {
	issuer, err := discovery.ParseIssuer(i.Issuer)
	if err != nil {
		return nil // the problem is already noted
	}
	route := issuer.Route()
	if other, taken := c[route]; taken {
		return fmt.Errorf("issuer %s is served at the same host and path as %s: ports do not tell them apart", i.Issuer,
			other)
	}
	if i.Managed != nil && i.Managed.SignerSocket != "" {
		socket := "socket " + i.Managed.SignerSocket
		if other, taken := c[socket]; taken {
			return fmt.Errorf("signerSocket %s already belongs to issuer %s", i.Managed.SignerSocket, other)
		}
		c[socket] = i.Issuer
	}
	if i.Managed != nil {
		store := "store " + i.Managed.Store
		if other, taken := c[store]; taken {
			return fmt.Errorf("store %s already belongs to issuer %s: a ring has one issuer", i.Managed.Store, other)
		}
		c[store] = i.Issuer
	}
	c[route] = i.Issuer
	return nil
}

// resolve makes file names independent of the working directory.
func (c *Config) resolve(dir string) {
	resolve(dir, &c.StateDir, &c.IssuersDir)
	for i := range c.IssuersDirAllow.Roots {
		resolve(dir, &c.IssuersDirAllow.Roots[i])
	}
	if c.TLS != nil {
		resolve(dir, &c.TLS.CertFile, &c.TLS.KeyFile)
		if c.TLS.ACME != nil {
			resolve(dir, &c.TLS.ACME.Storage, &c.TLS.ACME.CAFile)
		}
	}
	for i := range c.Issuers {
		c.Issuers[i].resolve(dir)
	}
}

func (i *Issuer) resolve(dir string) {
	if m := i.Managed; m != nil {
		if path, ok := store.Dir(m.Store); ok {
			resolve(dir, &path)
			m.Store = path
		}
		if !strings.HasPrefix(m.SignerSocket, "@") {
			resolve(dir, &m.SignerSocket)
		}
	}
	for _, named := range i.paths() {
		resolve(dir, named.path)
	}
}

func resolve(dir string, paths ...*string) {
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}
