package check

import (
	"maps"
	"slices"
	"time"
)

// Times of a [Cache] that are not durations.
const (
	// UntilExpiry means until the token expires, or never for a new key.
	UntilExpiry time.Duration = -1
	// Unmeasured means that there is nothing to measure.
	Unmeasured time.Duration = -2
)

// A Cache is how a relying party caches keys, as measured with its unmodified code
// through rotations and revocations.
type Cache struct {
	Title, Version string
	// NewKey is when a token of a key that it has never fetched is accepted.
	NewKey time.Duration
	// Revoked is how long a token of a key is accepted that was removed from the key
	// set.
	Revoked time.Duration
	// Flushed is the same after a flush token: one that sounds right and has a kid
	// that it does not know, so that it fetches the keys. [UntilExpiry] means that a
	// flush token has no effect.
	Flushed time.Duration
}

// Caches are the relying parties that were measured, in November 2026.
var Caches = []Cache{
	{"kube-apiserver (jwt issuers)", "1.36.3", sec(257), UntilExpiry, sec(304)},
	{"Vault jwt auth", "0.26.1", 0, UntilExpiry, 0},
	{"hashicorp/cap", "0.15.0", 0, UntilExpiry, 0},
	{"go-oidc v3, Fulcio, oauth2-proxy", "3.21, 1.8.8, 7.15.6", 0, UntilExpiry, 0},
	{"go-oidc v2", "2.5.0", sec(257), UntilExpiry, sec(304)},
	{"Open Policy Agent", "1.22.2", sec(287), sec(287), Unmeasured},
	{"zitadel/oidc", "3.51.17", 0, UntilExpiry, 0},
	{"auth0/go-jwt-middleware", "2.3.1", sec(55), sec(46), sec(46)},
	{"keyfunc", "3.9.1", 0, time.Hour, 0},
	{"jwx v2, v3", "2.1.7, 3.4.0", sec(887), sec(889), UntilExpiry},
	{"jose, openid-client, express-oauth2-jwt-bearer", "6.2, 6.9, 1.10", sec(20), sec(587), 0},
	{"jwks-rsa, passport-jwt", "4.1, 4.0", 0, sec(587), UntilExpiry},
	{"@okta/jwt-verifier", "4.0.2", 0, time.Hour, UntilExpiry},
	{"@fastify/jwt with get-jwks", "11.0.3", 0, UntilExpiry, UntilExpiry},
	{"aws-jwt-verify", "5.2.1", 0, UntilExpiry, 0},
	{"@hapi/jwt", "3.2.4", UntilExpiry, UntilExpiry, UntilExpiry},
	{"hono/jwk", "4.13", 0, 0, Unmeasured},
	{"PyJWT", "2.6.0", 0, sec(289), 0},
	{"joserfc, Authlib, jwcrypto, node-jose", "–", 0, UntilExpiry, 0},
	{"python-jose", "3.3.0", 0, UntilExpiry, 0},
	{"ruby-jwt", "2.5.0", sec(292), UntilExpiry, sec(304)},
	{"mod_auth_openidc", "2.4.12", 0, UntilExpiry, 0},
	{"mod_oauth2", "3.3.1", 0, UntilExpiry, sec(289)},
	{"lua-resty-openidc", "1.8.0", 0, UntilExpiry, UntilExpiry},
}

func sec(n time.Duration) time.Duration { return n * time.Second }

// documented are the [Parties] whose caching is known from their sources, and was
// not measured.
var documented = []string{"spring", "envoy", "istio", "nginx", "dotnet"}

// allCaches returns [Caches] and those that are documented.
func allCaches() []Cache {
	all := slices.Clone(Caches)
	for _, name := range documented {
		p, _ := PartyByName(name)
		c := Cache{Title: p.Title, NewKey: p.Cache, Revoked: p.Cache, Flushed: UntilExpiry}
		if p.Refetch {
			c.NewKey, c.Flushed = 0, 0
		}
		all = append(all, c)
	}
	return all
}

// A Delay is a time and the relying parties that it applies to.
type Delay struct {
	After  time.Duration // [UntilExpiry] comes last
	Titles []string
}

// NewKeyDelays returns how long relying parties reject tokens of a key that they
// could not fetch before, the shortest first.
func NewKeyDelays() []Delay { return delays(func(c Cache) time.Duration { return c.NewKey }) }

// RevokedDelays returns how long relying parties accept tokens of a key that was
// removed from the key set, the shortest first.
func RevokedDelays() []Delay { return delays(func(c Cache) time.Duration { return c.Revoked }) }

// Flushable returns the relying parties that drop a revoked key at once when they get
// a flush token, and would keep it otherwise.
func Flushable() (titles []string) {
	for _, c := range allCaches() {
		if c.Flushed == 0 && c.Revoked != 0 {
			titles = append(titles, c.Title)
		}
	}
	return titles
}

// delays groups all caches by a time, rounded up to minutes.
func delays(of func(Cache) time.Duration) (list []Delay) {
	groups := map[time.Duration][]string{}
	for _, c := range allCaches() {
		d := of(c)
		if d > 0 {
			d = (d + time.Minute - 1).Truncate(time.Minute)
		}
		groups[d] = append(groups[d], c.Title)
	}
	for _, d := range slices.Sorted(maps.Keys(groups)) {
		if d >= 0 {
			list = append(list, Delay{d, groups[d]})
		}
	}
	if never := groups[UntilExpiry]; never != nil {
		list = append(list, Delay{UntilExpiry, never})
	}
	return list
}
