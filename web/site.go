package web

import (
	"net/netip"
	"strings"
	"sync/atomic"

	"oidc-provider/discovery"
)

// A Site is the issuers that are served at one address, found by the host and
// the path of a request. Ports do not count: the one that a relying party used
// may be that of a proxy.
type Site struct {
	cfg    SiteConfig
	routes atomic.Pointer[routes]
}

// SiteConfig says how a [Site] finds an issuer.
type SiteConfig struct {
	// AnyHost finds issuers by their path alone if no issuer has the host that
	// was asked for, for a proxy that does not pass the host on. By default that
	// applies to requests to localhost or to an IP address only: a client that
	// requests an issuer that is not served here, or not any more, must not get
	// the keys of another one.
	AnyHost bool
}

// A Slot is the place of one issuer in a [Site].
type Slot struct {
	issuer    discovery.Issuer
	documents func() *Documents
}

// NewSlot returns the slot of an issuer. Every request asks documents for what is
// served, which must be cheap and must never be nil.
func NewSlot(issuer discovery.Issuer, documents func() *Documents) *Slot {
	return &Slot{issuer, documents}
}

// Documents returns what is served.
func (s *Slot) Documents() *Documents { return s.documents() }

// routes are immutable. Request paths are spelt out, so that nothing of a
// request has to be taken apart.
type routes struct {
	hosts map[string]map[string]route
	// paths are for hosts that no issuer has. A path that several hosts have is
	// not in it.
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

// Set replaces the issuers that are served, all at once. No two may have the
// same host and path.
func (s *Site) Set(slots []*Slot) {
	r := &routes{hosts: make(map[string]map[string]route)}
	for _, slot := range slots {
		issuer := slot.issuer
		host := discovery.Hostname(issuer.URL().Host)
		if r.hosts[host] == nil {
			r.hosts[host] = make(map[string]route)
		}
		place := func(kind kind, paths []string) {
			for _, path := range paths {
				r.hosts[host][path] = route{slot, kind}
			}
		}
		place(page, pagePaths(issuer))
		place(configuration, issuer.ConfigurationPaths())
		place(keySet, issuer.JWKSPaths())
	}
	r.paths = unambiguous(r.hosts)
	s.routes.Store(r)
}

// unambiguous are the paths that one host alone has.
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

// find returns the documents that this request is for, or nil, and which of
// them.
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

// isName reports whether host can be that of an issuer in the world, rather
// than the address of this process.
func isName(host string) bool {
	if host == "" || host == "localhost" {
		return false
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil
}
