package rotation

import (
	"fmt"
	"time"

	"oidc-provider/jwks"
)

// A View is what a replica knows of the ring. It is immutable, made once for
// every state of the ring, and shared by everybody who asks.
type View struct {
	ring *Ring

	// pending is a ring that this replica tried to write without learning
	// whether it did. Until the next read either may be the true one.
	pending *Ring
}

// Ring is the ring as it was read last. Callers must not modify it.
func (v *View) Ring() *Ring { return v.ring }

// KeySet is the public halves of the keys that stand in the JWKS, in an order
// that does not change.
func (v *View) KeySet() []jwks.PublicKey {
	var keys []jwks.PublicKey
	for i := range v.ring.Keys {
		if k := &v.ring.Keys[i]; k.InKeySet() {
			keys = append(keys, k.public)
		}
	}
	return keys
}

// A Signer is what it takes to sign at one instant.
type Signer struct {
	Key *jwks.SigningKey
	// Issuer is the only iss, and exp at most MaxTokenLifetime from now the
	// only exp, that may be signed.
	Issuer           string
	MaxTokenLifetime time.Duration
}

// Signer picks the key that signs at now. Replicas with the same ring pick
// the same one.
func (v *View) Signer(now time.Time) (Signer, error) {
	s, err := v.ring.signer(now)
	if err != nil || v.pending == nil {
		return s, err
	}
	other, err := v.pending.signer(now)
	if err != nil {
		return Signer{}, err
	}
	if other.Key.KeyID() != s.Key.KeyID() {
		return Signer{}, fmt.Errorf("the last write of the ring is in doubt, and with it which key signs")
	}
	s.MaxTokenLifetime = min(s.MaxTokenLifetime, other.MaxTokenLifetime)
	return s, nil
}

func (r *Ring) signer(now time.Time) (Signer, error) {
	if err := r.CheckClock(now); err != nil {
		return Signer{}, err
	}
	active := r.Active(r.At(now))
	if active != nil && active.closed() {
		return Signer{}, active.whyClosed()
	}
	if active == nil || active.signing == nil {
		return Signer{}, fmt.Errorf("no key of the ring signs at %s", now.UTC().Format(time.RFC3339))
	}
	return Signer{Key: active.signing, Issuer: r.Issuer, MaxTokenLifetime: time.Duration(r.Policy.MaxTokenLifetime)}, nil
}

// NewView is the view of somebody who has just read r from its store.
func NewView(r *Ring) *View { return &View{ring: r} }
