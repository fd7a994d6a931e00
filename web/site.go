package web

import (
	"net/netip"
	"strings"
	"sync/atomic"

	"oidc-provider/discovery"
)

// A Site holds the issuers that are served at one address, and finds them by the
// host and the path of a request. It ignores the port: a relying party may have
// used the port of a proxy.
type Site struct {
	cfg    SiteConfig
	routes atomic.Pointer[routes]
}

// SiteConfig says how a [Site] finds an issuer.
type SiteConfig struct {
	// AnyHost finds issuers by their path alone if no issuer has the host of the
	// request, as behind a proxy that does not forward the host. By default only
	// requests to localhost or to an IP address are answered like that: a client
	// that requests an issuer that is not served here, or not any more, must not
	// get the keys of another one.
	AnyHost bool
}

// A Slot is one issuer in a [Site].
type Slot struct {
	issuer    discovery.Issuer
	documents func() *Documents
}

// NewSlot returns the slot of an issuer. Every request calls documents, which must
// be cheap, safe for concurrent use, and never return nil.
func NewSlot(issuer discovery.Issuer, documents func() *Documents) *Slot {
	return &Slot{issuer, documents}
}

// Documents returns what the slot serves now.
func (s *Slot) Documents() *Documents { return s.documents() }

// routes is immutable. It has every request path in full, so that requests need
// no parsing.
type routes struct {
	hosts map[string]map[string]route
	// paths is for hosts that no issuer has. It lacks paths that several hosts
	// have.
	paths map[string]route
}

type route struct {
	slot *Slot
	kind kind
}

// NewSite returns a Site that serves slots.
func NewSite(cfg SiteConfig, slots ...*Slot) *Site {
	s := &Site{cfg: cfg}
	s.Set(slots)
	return s
}

// Set replaces all issuers at once. No two of them may have the same host and
// path.
func (s *Site) Set(slots []*Slot) {
	r := &routes{hosts: make(map[string]map[string]route)}
	for _, slot := range slots {
		issuer := slot.issuer
		host := discovery.Hostname(issuer.URL().Host)
		if r.hosts[host] == nil {
			r.hosts[host] = make(map[string]route)
		}
		add := func(kind kind, paths []string) {
			for _, path := range paths {
				r.hosts[host][path] = route{slot, kind}
			}
		}
		add(page, pagePaths(issuer))
		add(discoveryDocument, issuer.DiscoveryPaths())
		add(keySet, issuer.JWKSPaths())
	}
	r.paths = unambiguous(r.hosts)
	s.routes.Store(r)
}

// unambiguous returns the paths that only one host has.
func unambiguous(hosts map[string]map[string]route) map[string]route {
	if len(hosts) == 1 {
		for _, paths := range hosts {
			return paths
		}
	}
	all := make(map[string]route)
	for _, paths := range hosts {
		for path, route := range paths {
			if _, twice := all[path]; twice {
				route.slot = nil
			}
			all[path] = route
		}
	}
	for path, route := range all {
		if route.slot == nil {
			delete(all, path)
		}
	}
	return all
}

// find returns the documents that a request is for, or nil, and which of them.
func (s *Site) find(host, path string) (*Documents, kind) {
	r := s.routes.Load()
	host = discovery.Hostname(host)
	paths, known := r.hosts[host]
	if !known && (s.cfg.AnyHost || !isName(host)) {
		paths = r.paths
	}
	found, ok := paths[path]
	if !ok {
		return nil, 0
	}
	return found.slot.Documents(), found.kind
}

// isName reports whether host can be the host of a public issuer, rather than the
// address of this process.
func isName(host string) bool {
	if host == "" || host == "localhost" {
		return false
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil
}
