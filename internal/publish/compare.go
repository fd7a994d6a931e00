package publish

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// A Comparison says how the content of a copy differs from the key set of a ring.
// The zero value has no difference.
type Comparison struct {
	// NextKey is the kid of the next key, "" without one.
	NextKey string
	// Lost are the missing keys that the copy had confirmed, and Planned is when a
	// lost next key was to be active, if that was planned. ActiveFrom is when a
	// server may activate it nevertheless, because it has not heard of the change.
	// [Comparison.Withdraw] sets them. Both times may be zero.
	Lost                []string
	Planned, ActiveFrom time.Time

	present, missing []string // kids of the key set
	absent           []string // kids of revoked keys that the copy does not have
	phases           map[string]rotation.Phase
	extra            []string // descriptions of keys that should not be there
	ignored          []error
	keySetURL        string
}

// Compare compares the content of a copy with the key set of r at a time.
func (c *Content) Compare(r *rotation.Ring, at time.Time) Comparison {
	result := Comparison{phases: make(map[string]rotation.Phase), ignored: c.ignored, keySetURL: KeySetURL(r)}
	if standby := r.Standby(at); standby != nil {
		result.NextKey = standby.KeyID
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		result.phases[k.KeyID] = k.Phase(at)
		present := slices.ContainsFunc(c.keys, func(key jwks.PublicKey) bool {
			return key.KeyID() == k.KeyID && bytes.Equal(key.PKIX(), k.Public)
		})
		switch {
		case !k.Published() && !present:
			result.absent = append(result.absent, k.KeyID)
		case !k.InKeySet():
		case present:
			result.present = append(result.present, k.KeyID)
		default:
			result.missing = append(result.missing, k.KeyID)
		}
	}
	for _, key := range c.keys {
		if !slices.Contains(result.present, key.KeyID()) {
			result.extra = append(result.extra, describeExtra(r, key))
		}
	}
	return result
}

// describeExtra describes a key of a copy that the key set does not contain.
func describeExtra(r *rotation.Ring, key jwks.PublicKey) string {
	sameKID := slices.IndexFunc(r.Keys, func(k rotation.Key) bool { return k.KeyID == key.KeyID() })
	sameKey := slices.IndexFunc(r.Keys, func(k rotation.Key) bool { return bytes.Equal(k.Public, key.PKIX()) })
	switch {
	case sameKID >= 0 && sameKID != sameKey:
		return fmt.Sprintf("another key under the kid %s", key.KeyID())
	case sameKey >= 0 && sameKID != sameKey:
		return fmt.Sprintf("key %s under the kid %.64q, where its tokens do not find it", r.Keys[sameKey].KeyID, key.KeyID())
	case sameKID >= 0 && !r.Keys[sameKID].Published():
		return fmt.Sprintf("key %s, which is revoked", key.KeyID())
	case sameKID >= 0:
		return fmt.Sprintf("key %s, which is excluded from discovery", key.KeyID())
	case r.Knows(key.KeyID()):
		return fmt.Sprintf("key %s, which was removed", key.KeyID())
	}
	return fmt.Sprintf("key %.64q, which was never in the ring", key.KeyID())
}

// KeysUpTo returns the kids of the keys that a copy has if its operator has updated it
// with the key kid: for the next key the key set in which that was new, and for another
// key only that one.
func KeysUpTo(r *rotation.Ring, kid string, at time.Time) (kids []string) {
	next := r.Standby(at)
	if next == nil || next.KeyID != kid {
		return []string{kid}
	}
	for i := range r.Keys {
		if k := &r.Keys[i]; k.InKeySet() && !k.PublishAt.After(next.PublishAt) {
			kids = append(kids, k.KeyID)
		}
	}
	return kids
}

// KeySetURL returns the URL of the key set of r.
func KeySetURL(r *rotation.Ring) string {
	issuer, err := discovery.ParseIssuer(r.Issuer)
	if err != nil {
		return r.Issuer + discovery.JWKSPath
	}
	return issuer.JWKSURI()
}

// Withdraw returns r without the copy's confirmations of keys that it does not
// have, and of revoked keys that were taken out.
func (c *Comparison) Withdraw(r *rotation.Ring, name string, now time.Time) (next *rotation.Ring, err error) {
	for _, k := range r.Keys {
		if slices.Contains(c.missing, k.KeyID) && !k.CopyConfirmedAt[name].IsZero() {
			c.Lost = append(c.Lost, k.KeyID)
			if k.KeyID == c.NextKey {
				c.Planned = k.SignFrom
			}
		}
	}
	next, c.ActiveFrom, err = rotation.UnconfirmCopy(r, name, now, slices.Concat(c.Lost, c.absent)...)
	return next, err
}

// LostNextKey reports whether the copy has lost the next key.
func (c *Comparison) LostNextKey() bool { return slices.Contains(c.Lost, c.NextKey) }

// MissingNextKey returns the error for a copy that does not have the next key.
func (c *Comparison) MissingNextKey(name string) error { return c.missingKey(name, c.NextKey, "") }

func (c *Comparison) missingKey(name, kid, consequence string) error {
	return hint.Errorf("update the copy with the key set, "+c.keySetURL, "copy %s does not have key %s, which %s%s",
		name, kid, phaseWords[c.phases[kid]], consequence)
}

// ErrNoNextKey is the error of a ring whose next key is not created yet.
var ErrNoNextKey = hint.Errorf("a server creates it as soon as the previous one signs: try again",
	"the ring has no next key yet")

// Confirmable returns the kids that the copy may confirm: those of the key set
// that it has, and the given ones. It is an error if one of the given ones, or the
// next key if none is given, is missing.
func (c *Comparison) Confirmable(name string, kids []string) ([]string, error) {
	required := kids
	if len(required) == 0 {
		if c.NextKey == "" {
			return nil, ErrNoNextKey
		}
		required = []string{c.NextKey}
	}
	all := slices.Clone(c.present)
	for _, kid := range required {
		if slices.Contains(c.missing, kid) {
			return nil, c.missingKey(name, kid, ": nothing was confirmed")
		}
		if !slices.Contains(all, kid) {
			all = append(all, kid) // ConfirmCopy returns the reason
		}
	}
	return all, nil
}

var phaseWords = map[rotation.Phase]string{
	rotation.Next: "is next", rotation.Active: "signs", rotation.Retired: "verifies",
	rotation.VerifyOnly: "verifies", rotation.Revoked: "is revoked",
}

// Warnings returns what is wrong with the copy, except for the next key.
func (c *Comparison) Warnings(name string) (warnings []error) {
	add := func(err error) { warnings = append(warnings, err) }
	for _, kid := range c.missing {
		verb := "does not have"
		if slices.Contains(c.Lost, kid) {
			verb = "has lost"
		}
		if phase := c.phases[kid]; phase != rotation.Next {
			add(fmt.Errorf("copy %s %s key %s, which %s: its tokens are rejected there", name, verb, kid, phaseWords[phase]))
		}
	}
	for _, err := range c.ignored {
		add(fmt.Errorf("copy %s has something that relying parties ignore: %w", name, err))
	}
	for _, description := range c.extra {
		add(hint.Errorf("replace everything there by the key set; "+
			"anyone with the private half of an extra key can forge tokens",
			"copy %s has what the key set does not have: %s", name, description))
	}
	return warnings
}
