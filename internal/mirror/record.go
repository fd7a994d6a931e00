package mirror

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"oidc-provider/jwks"
)

// A record contains which key each kid has named, also of kids that are gone. The
// kids of the present key set are last, the others in the order in which they
// disappeared.
type record []seenKey

type seenKey struct {
	KeyID  string `json:"kid"`
	SHA256 []byte `json:"sha256"` // of the PKIX form
}

// maxSeen bounds a record. It must be at least maxKeys.
const maxSeen = 1000

func newSeenKey(k jwks.PublicKey) seenKey {
	sum := sha256.Sum256(k.PKIX())
	return seenKey{KeyID: k.KeyID(), SHA256: sum[:]}
}

// check refuses keys if a kid in them has named another key before.
func (r record) check(keys []jwks.PublicKey) error {
	named := make(map[string][]byte, len(r))
	for _, s := range r {
		named[s.KeyID] = s.SHA256
	}
	for _, k := range keys {
		now := newSeenKey(k)
		if before, ok := named[now.KeyID]; ok && !bytes.Equal(before, now.SHA256) {
			return fmt.Errorf("kid %q named another key before", now.KeyID)
		}
	}
	return nil
}

// with returns r after keys have become the key set.
func (r record) with(keys []jwks.PublicKey) record {
	present := make(map[string]bool, len(keys))
	for _, k := range keys {
		present[k.KeyID()] = true
	}
	next := slices.DeleteFunc(slices.Clone(r), func(s seenKey) bool { return present[s.KeyID] })
	if n := len(next) + len(keys) - maxSeen; n > 0 {
		next = next[n:]
	}
	next = slices.Grow(slices.Clone(next), len(keys))
	for _, k := range keys {
		next = append(next, newSeenKey(k))
	}
	return next
}

// and returns r followed by other: what other says about a kid is newer.
func (r record) and(other record) record {
	later := make(map[string]bool, len(other))
	for _, s := range other {
		later[s.KeyID] = true
	}
	all := slices.DeleteFunc(slices.Clone(r), func(s seenKey) bool { return later[s.KeyID] })
	all = append(all, other...)
	return all[max(len(all)-maxSeen, 0):]
}

// same reports whether a and b are the same key under the same kid.
func same(a, b jwks.PublicKey) bool {
	return a.KeyID() == b.KeyID() && bytes.Equal(a.PKIX(), b.PKIX())
}
