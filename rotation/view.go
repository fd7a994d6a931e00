package rotation

import (
	"fmt"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// A View is what a replica knows of the ring. It is immutable, made once for
// every state of the ring, and shared by all callers.
type View struct {
	ring *Ring

	// pending is a ring that this replica has tried to write, with unknown
	// outcome. Until the next read, either ring may be in the store.
	pending *Ring
}

// Ring returns the ring as it was read last. Callers must not modify it.
func (v *View) Ring() *Ring { return v.ring }

// KeySet returns the public halves of the keys in the JWKS, in an order that
// does not change.
func (v *View) KeySet() []jwks.PublicKey {
	var keys []jwks.PublicKey
	for i := range v.ring.Keys {
		if k := &v.ring.Keys[i]; k.InKeySet() {
			keys = append(keys, k.public)
		}
	}
	return keys
}

// A Signer has what is needed to sign a token at one instant.
type Signer struct {
	Key *jwks.SigningKey
	// Issuer is the only iss that may be signed. The exp that may be signed is
	// at most MaxTokenLifetime from now.
	Issuer           string
	MaxTokenLifetime time.Duration
}

// Signer returns the key that is active at now. Replicas with the same ring
// return the same key.
func (v *View) Signer(now time.Time) (Signer, error) {
	return v.signer(func(r *Ring) (time.Time, error) { return r.At(now), nil })
}

// signer returns the key that is active at the time that at returns for a ring.
func (v *View) signer(at func(*Ring) (time.Time, error)) (Signer, error) {
	s, err := v.ring.signer(at)
	if err != nil || v.pending == nil {
		return s, err
	}
	other, err := v.pending.signer(at)
	if err != nil {
		return Signer{}, err
	}
	if other.Key.KeyID() != s.Key.KeyID() {
		return Signer{}, hint.Errorf("this ends with the next successful read; the log has the reason why the write failed",
			"the outcome of the last write of the ring is unknown, and the active key depends on it")
	}
	s.MaxTokenLifetime = min(s.MaxTokenLifetime, other.MaxTokenLifetime)
	return s, nil
}

// signer does not check the clock. A replica whose clock is behind signs with the
// key that is active at the ring's own time, later than others perhaps, but what
// it signs expires as early as its clock is late: exp is at most MaxTokenLifetime
// from now, and now is before the key's SignUntil, or before the MaySignUntil of a
// replica with an older ring. So no token outlives the key (invariant 3).
func (r *Ring) signer(at func(*Ring) (time.Time, error)) (Signer, error) {
	now, err := at(r)
	if err != nil {
		return Signer{}, err
	}
	active := r.Active(now)
	if active != nil && active.struck {
		return Signer{}, hint.Errorf("a server that can sign the ring makes the next key active",
			"the active key %s was revoked by a writer that may only revoke", active.KeyID)
	}
	if active != nil && active.closed() {
		return Signer{}, active.whyClosed()
	}
	if active == nil || active.signing == nil {
		return Signer{}, fmt.Errorf("no key of the ring is active at %s", now.UTC().Format(time.RFC3339))
	}
	lifetime := time.Duration(r.Policy.MaxTokenLifetime)
	return Signer{Key: active.signing, Issuer: r.Issuer, MaxTokenLifetime: lifetime}, nil
}

// NewView returns the view of a process that has just read r from its store.
func NewView(r *Ring) *View { return &View{ring: r} }
