// Package rotation manages the life of signing keys. A [Ring] holds the keys of
// one issuer. This file describes their life, with pure functions of a ring, its
// policy and the time. A [Rotator] carries it out on a [Store].
//
//	created ──► published ──► (confirmed) ──► active ──► retired ──► removed
//	            │◄──── at least PublishAhead ───►│         │◄── max token lifetime + skew ──►│
package rotation

import (
	"slices"
	"time"

	"oidc-provider/internal/hint"
)

// A Phase is the stage of life that a key has reached. It is computed from the
// key's times and the clock and is stored nowhere, so that replicas with the
// same ring agree on it without talking to each other.
type Phase string

const (
	Next    Phase = "next"    // published, will sign later
	Active  Phase = "active"  // signs
	Retired Phase = "retired" // published, since tokens signed with it may still be valid
	Revoked Phase = "revoked" // neither signs nor is published

	// VerifyOnly keys were imported as public keys: published until they are revoked.
	VerifyOnly Phase = "verify-only"
)

// Phase returns the phase of the key at now. Revocation cannot be planned: it
// takes effect when it is written.
func (k *Key) Phase(now time.Time) Phase {
	switch {
	case !k.RevokedAt.IsZero():
		return Revoked
	case k.VerifyOnly:
		return VerifyOnly
	case k.SignFrom.IsZero() || now.Before(k.SignFrom):
		return Next
	case k.SignUntil.IsZero() || now.Before(k.SignUntil):
		return Active
	}
	return Retired
}

// signsLast returns the last instant at which any replica may sign with the
// key, zero if it has no end.
func (k *Key) signsLast() time.Time {
	switch {
	case !k.RevokedAt.IsZero():
		return k.RevokedAt
	case k.SignUntil.IsZero():
		return time.Time{}
	}
	return latest(k.SignUntil, k.MaySignUntil)
}

// RemoveAt returns when the key leaves the ring: when the last token that it may
// have signed has expired on every clock, and not before replicas stop using an
// older ring: see [Ring.lead]. It returns zero if that is not decided yet.
func (k *Key) RemoveAt() time.Time {
	last := k.signsLast()
	if last.IsZero() {
		return last
	}
	return latest(last.Add(time.Duration(k.Retention)), k.MaySignUntil)
}

// Published reports whether kube-apiserver receives the key and, unless it is
// excluded from discovery, the key set contains it. This does not depend on the
// clock: a key is published until it is removed from the ring, and a replica
// that cannot read the ring any more continues to publish what it knew.
func (k *Key) Published() bool { return k.RevokedAt.IsZero() && !k.struck }

// InKeySet reports whether the key is in the key set. See [Ring.Unusable] for keys
// that would make relying parties refuse the set.
func (k *Key) InKeySet() bool { return k.Published() && !k.ExcludeFromDiscovery && !k.leftOut() }

// Active returns the key that signs at now, a time from [Ring.At]. A ring that
// [Decode] has accepted always has one.
func (r *Ring) Active(now time.Time) *Key { return r.first(Active, now) }

// Standby returns the next key, or nil. [Advance] makes sure that there is one.
func (r *Ring) Standby(now time.Time) *Key { return r.first(Next, now) }

func (r *Ring) first(phase Phase, now time.Time) *Key {
	for i := range r.Keys {
		if r.Keys[i].Phase(now) == phase {
			return &r.Keys[i]
		}
	}
	return nil
}

// At returns the time for this ring when a clock shows now. The newest event of
// the ring is in the past, whatever the clock shows: when one replica has acted
// on an activation, it has happened for all that read the ring afterwards.
func (r *Ring) At(now time.Time) time.Time { return latest(now.Round(0).UTC(), r.Updated) }

// CheckClock returns an error if the clock is wrong by more than the policy
// allows: if it shows a time before the newest event of the ring.
func (r *Ring) CheckClock(now time.Time) error {
	if r.Updated.Sub(now) <= time.Duration(r.Policy.ClockSkew) {
		return nil
	}
	return r.errFuture()
}

// errFuture returns the same text every time, so that it is logged once.
func (r *Ring) errFuture() error {
	return hint.Errorf("set the clock; if it is right, the ring was written by a machine whose clock was ahead, and "+
		"`oidc-provider keys repair --clock` puts it right",
		"the ring was last written at %s, and the clock shows an earlier time; the policy allows a clock skew of %v",
		r.Updated.Format(time.RFC3339), r.Policy.ClockSkew)
}

// An Event says what a change did to a key.
type Event struct {
	Msg      string
	KeyID    string
	Previous string    // kid of the key that was active before, if KeyID has become active
	At       time.Time // zero for at once
}

// Advance does what is due: it removes keys whose tokens have all expired,
// deletes private halves that will not sign again, makes sure that there is a
// next key, and plans its activation when the publication is confirmed and
// every copy has confirmed the key. confirmed is the kid of a key that every
// publisher of a server has published. If there is nothing to do, Advance
// returns r itself.
func Advance(r *Ring, now time.Time, confirmed string, generate Generate) (*Ring, []Event, error) {
	if err := r.CheckClock(now); err != nil {
		return r, nil, err
	}
	next, now := r.begin(now)
	events := next.removeExpired(now)
	events = append(events, next.deletePrivate(now)...)
	before := len(next.Keys)
	if err := next.ensureStandby(now, generate); err != nil {
		return r, nil, err
	}
	standby := next.Standby(now)
	if len(next.Keys) > before {
		events = append(events, Event{Msg: "made and published the next key", KeyID: standby.KeyID})
	}
	if standby.ConfirmedAt.IsZero() && standby.KeyID == confirmed {
		standby.ConfirmedAt = now
		if len(next.Lacking(standby)) > 0 {
			events = append(events, Event{Msg: "publication is confirmed, rotation waits for copies", KeyID: standby.KeyID})
		}
	}
	if !next.KnownSince(standby).IsZero() && standby.SignFrom.IsZero() {
		at, err := next.planActivation(standby, now)
		if err != nil {
			return r, nil, err
		}
		events = append(events, Event{Msg: "publication is confirmed, rotation planned", KeyID: standby.KeyID, At: at})
	}
	if len(events) == 0 {
		return r, nil, nil
	}
	return next, events, nil
}

// NextInstant returns the next time after now at which Advance has something to
// do, as far as the ring alone decides. It returns zero if there is no such time.
func (r *Ring) NextInstant(now time.Time) time.Time {
	var next time.Time
	for i := range r.Keys {
		k := &r.Keys[i]
		for _, t := range []time.Time{k.SignFrom, k.SignUntil, k.deletePrivateAt(r.Policy), k.RemoveAt()} {
			if t.After(now) && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
	}
	return next
}

// planActivation decides when standby becomes active. PublishAhead counts from
// the last confirmation. An activation in the past would be one without notice.
func (r *Ring) planActivation(standby *Key, now time.Time) (time.Time, error) {
	active := r.Active(now)
	earliest := latest(r.KnownSince(standby).Add(time.Duration(standby.PublishAhead)), now)
	at, err := r.Policy.activation(active.SignFrom, earliest)
	if err != nil {
		return time.Time{}, err
	}
	r.withoutNotice(active, now)
	activate(active, standby, at)
	return at, nil
}

// activate lets to sign in the place of from, from the time at on.
func activate(from, to *Key, at time.Time) { from.SignUntil, to.SignFrom = at, at }

func (r *Ring) removeExpired(now time.Time) (events []Event) {
	r.Keys = slices.DeleteFunc(r.Keys, func(k Key) bool {
		at := k.RemoveAt()
		if at.IsZero() || now.Before(at) {
			return false
		}
		r.Removed = append(r.Removed, k.KeyID)
		events = append(events, Event{Msg: "every token signed with this key has expired, removed it", KeyID: k.KeyID})
		return true
	})
	return events
}

// deletePrivateAt returns when no replica signs with the key any more, on any
// clock. It returns zero if that is not decided yet, or the ring does not have
// the private half.
func (k *Key) deletePrivateAt(p Policy) time.Time {
	last := k.signsLast()
	if last.IsZero() || !k.hasPrivate() {
		return time.Time{}
	}
	return last.Add(time.Duration(p.ClockSkew))
}

func (r *Ring) deletePrivate(now time.Time) (events []Event) {
	for i := range r.Keys {
		k := &r.Keys[i]
		if at := k.deletePrivateAt(r.Policy); !at.IsZero() && !now.Before(at) {
			k.deletePrivate()
			events = append(events, Event{Msg: "deleted the private half of a retired key", KeyID: k.KeyID})
		}
	}
	return events
}

func (k *Key) deletePrivate() {
	k.Private, k.Sealed, k.signing, k.opened, k.unsealErr = nil, nil, nil, false, nil
}

// withoutNotice notes that k may sign for longer than the ring says. A replica
// that has read the ring for the last time just before now may keep signing
// with k for PublishAhead, by its own clock.
func (r *Ring) withoutNotice(k *Key, now time.Time) {
	k.MaySignUntil = latest(k.MaySignUntil, now.Add(time.Duration(r.Policy.PublishAhead+r.Policy.ClockSkew)))
}

// lead returns how long a key that is added at now must be published before it
// signs. A shorter PublishAhead does not count at once: until the longer one is
// over, replicas that have not read of it may publish the older ring, and caches
// may keep what was published before.
func (r *Ring) lead(now time.Time) Duration {
	lead := r.Policy.PublishAhead
	for i := range r.Keys {
		k := &r.Keys[i]
		lead = max(lead, min(k.PublishAhead, Duration(k.MaySignUntil.Sub(now))))
	}
	return lead
}

// ensureStandby generates a next key if there is none. It may move r.Keys:
// pointers into it become invalid.
func (r *Ring) ensureStandby(now time.Time, generate Generate) error {
	if r.Standby(now) != nil {
		return nil
	}
	key, err := generate(r.Policy)
	if err != nil {
		return err
	}
	return r.add(key, now)
}
