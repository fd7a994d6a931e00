package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"oidc-provider/discovery"
	"oidc-provider/internal/filemode"
	"oidc-provider/internal/kube"
	"oidc-provider/internal/store"
)

// A namedPath is a file name in an issuer, and its field.
type namedPath struct {
	field string
	index int // in a list, from 1; 0 for one name
	path  *string
}

func (n namedPath) String() string {
	if n.index == 0 {
		return n.field
	}
	return fmt.Sprintf("%s[%d]", n.field, n.index-1)
}

// paths returns the file names in i, but for those of a store and of a signer
// socket, which may have another form.
func (i *Issuer) paths() (all []namedPath) {
	add := func(field string, path *string) { all = append(all, namedPath{field, 0, path}) }
	list := func(field string, paths []string) {
		all = slices.Grow(all, len(paths))
		for n := range paths {
			all = append(all, namedPath{field, n + 1, &paths[n]})
		}
	}
	if m := i.Managed; m != nil {
		add("managed.etcd.caFile", &m.Etcd.CAFile)
		add("managed.etcd.certFile", &m.Etcd.CertFile)
		add("managed.etcd.keyFile", &m.Etcd.KeyFile)
		add("managed.etcd.passwordFile", &m.Etcd.PasswordFile)
		add("managed.kubeconfig", &m.Kubeconfig)
		add("managed.kmsSocket", &m.KMSSocket)
		add("managed.witnessCAFile", &m.WitnessCAFile)
		add("managed.rollbackState", &m.RollbackState)
		list("managed.ageIdentities", m.AgeIdentities)
	}
	if i.APIServer != nil {
		add("apiserver.kubeconfig", &i.APIServer.Kubeconfig)
	}
	if i.Files != nil {
		list("files.paths", i.Files.Paths)
	}
	if i.URL != nil {
		add("url.caFile", &i.URL.CAFile)
	}
	return all
}

// check notes what makes no sense in a.
func (a *DirAllow) check(p *problems) {
	if a.IssuerPrefix == "" {
		return
	}
	if _, err := discovery.ParseIssuer(a.IssuerPrefix); err != nil {
		p.note("issuersDirAllow.issuerPrefix", err)
	}
}

// admits reports whether an issuer is the prefix, or below it in the sense of a
// path: https://a.test/b admits https://a.test/b/c, and not https://a.test/bc.
func (a *DirAllow) admits(issuer string) bool {
	prefix := strings.TrimSuffix(a.IssuerPrefix, "/")
	return prefix == "" || issuer == prefix || strings.HasPrefix(issuer, prefix+"/")
}

// limit notes what an issuer of IssuersDir may not have, and binds its kubeconfig.
// Paths must be resolved.
func (c *Config) limit(i *Issuer, p *problems) {
	a := &c.IssuersDirAllow
	if !a.admits(i.Issuer) {
		p.add("issuer", "%q is not below %s, the issuerPrefix of this directory", i.Issuer, a.IssuerPrefix)
	}
	roots := append([]string{c.IssuersDir}, a.Roots...)
	boundary, err := filemode.NewBoundary(roots)
	if err != nil {
		p.note("issuersDir", err)
		return
	}
	for _, named := range i.paths() {
		before := len(p.found)
		checkWithin(p, named, *named.path, boundary)
		if len(p.found) > before {
			break // one is enough: a file may name thousands
		}
	}
	limits := &kube.Limits{Roots: roots, Programs: a.Programs}
	if i.APIServer != nil {
		i.APIServer.KubeLimits = limits
	}
	m := i.Managed
	if m == nil {
		return
	}
	m.KubeLimits = limits
	if !a.Managed {
		p.addHint("set {issuersDirAllow.managed} in the main configuration file, or move the issuer there", "managed",
			"a file of issuersDir may not name a store")
	}
	if dir, ok := store.Dir(m.Store); ok {
		checkWithin(p, namedPath{field: "managed.store"}, dir, boundary)
	}
	if m.SignerSocket == "" {
		return
	}
	if !a.SignerSockets {
		p.addHint("set {issuersDirAllow.signerSockets} in the main configuration file, or move the issuer there",
			"managed.signerSocket", "a file of issuersDir may not name a signer socket")
	}
	if !strings.HasPrefix(m.SignerSocket, "@") {
		checkWithin(p, namedPath{field: "managed.signerSocket"}, filepath.Dir(m.SignerSocket), boundary)
	}
}

// checkWithin notes a file name, or pattern, that is outside of the boundary.
func checkWithin(p *problems, name namedPath, path string, boundary *filemode.Boundary) {
	if path == "" {
		return
	}
	dir := strings.TrimPrefix(path, "unix://")
	if n := strings.IndexAny(dir, `*?[\`); n >= 0 { // of a pattern, the directory
		n = strings.LastIndexByte(dir[:n], filepath.Separator) + 1
		if slices.Contains(strings.Split(dir[n:], string(filepath.Separator)), "..") {
			p.add(name.String(), "a pattern with .. is not allowed in a file of issuersDir")
			return
		}
		dir = dir[:n]
	}
	switch within, err := boundary.Contains(dir); {
	case err != nil:
		p.note(name.String(), err)
	case !within:
		p.addHint("add its directory to {issuersDirAllow.roots} in the main configuration file", name.String(),
			"%s is in no directory that a file of issuersDir may use", path)
	}
}
