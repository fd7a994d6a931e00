package main

import (
	"time"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// ringInfo is a ring as `keys list -o json` shows it.
type ringInfo struct {
	Issuer string `json:"issuer"`
	Store  string `json:"store"`
	// Recipients are those that can open the private keys, empty if they are plain.
	Recipients []string `json:"recipients"`
	// SignedBy are the writers whose signature fits the ring, empty if it is not signed.
	SignedBy []rotation.WriterID `json:"signedBy"`
	// Verified says that one of them is trusted here, because of --ring-signer.
	Verified     bool            `json:"verified"`
	Policy       rotation.Policy `json:"policy"`
	NextRotation *time.Time      `json:"nextRotation"` // null if it is not planned yet
	Keys         []keyInfo       `json:"keys"`
}

// keyInfo is a key as `keys list -o json` shows it: times in RFC 3339, null
// where they are open.
type keyInfo struct {
	KeyID       string         `json:"kid"`
	Algorithm   string         `json:"algorithm"`
	Phase       rotation.Phase `json:"phase"`
	Created     *time.Time     `json:"created"`
	PublishAt   *time.Time     `json:"publishAt"`
	ConfirmedAt *time.Time     `json:"confirmedAt"`
	SignFrom    *time.Time     `json:"signFrom"`
	SignUntil   *time.Time     `json:"signUntil"`
	RemoveAt    *time.Time     `json:"removeAt"` // from the ring; a revoked key left the key set at revokedAt
	RevokedAt   *time.Time     `json:"revokedAt"`
	// Forced keys signed before they were published for publish-ahead: the first of
	// a ring, and those of emergencies.
	Forced bool `json:"forced"`
	// InDiscovery keys are in the key set.
	InDiscovery bool `json:"inDiscovery"`
	// WaitsFor is what keeps the rotation to a next key from being planned.
	WaitsFor []string `json:"waitsFor"`
	// Private is how the private half is stored: plain, sealed or none.
	Private string `json:"private"`
}

func newRingInfo(r *rotation.Ring, cfg store.Config, now time.Time) ringInfo {
	at := r.At(now)
	info := ringInfo{
		Issuer: r.Issuer, Store: cfg.Store, Recipients: append([]string{}, r.Recipients...), SignedBy: nonNil(r.Signers()),
		Verified: r.Signed() && len(cfg.RingSigners) > 0, // reading it has checked them
		Policy:   r.Policy, Keys: []keyInfo{},
	}
	if next := r.Standby(at); next != nil {
		info.NextRotation = decided(next.SignFrom)
	}
	waiting := r.Waiting(at)
	for i := range r.Keys {
		k := &r.Keys[i]
		waits := []string{}
		if waiting != nil && waiting.KeyID == k.KeyID {
			waits = describe.WaitsFor(waiting)
		}
		phase := k.Phase(at)
		if !k.Published() {
			phase = rotation.Revoked // perhaps by a writer that may only revoke, and in the ring later
		}
		info.Keys = append(info.Keys, keyInfo{
			KeyID: k.KeyID, Algorithm: string(k.Algorithm), Phase: phase,
			Created: decided(k.Created), PublishAt: decided(k.PublishAt), ConfirmedAt: decided(k.ConfirmedAt),
			SignFrom: decided(k.SignFrom), SignUntil: decided(k.SignUntil), RemoveAt: decided(k.RemoveAt()),
			RevokedAt: decided(k.RevokedAt),
			Forced:    k.Forced, InDiscovery: k.InKeySet(), WaitsFor: waits, Private: private(k),
		})
	}
	return info
}

// decided returns nil for the zero time, which is not decided yet.
func decided(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func private(k *rotation.Key) string {
	switch {
	case len(k.Sealed) > 0:
		return "sealed"
	case len(k.Private) > 0:
		return "plain"
	}
	return "none"
}
