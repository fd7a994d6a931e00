// Package rotation is the life of a signing key. [Ring] holds the keys of one
// issuer, this file tells what becomes of them as pure functions of a ring,
// its policy and the time, and [Rotator] does it, over a [Store].
//
//	created ──► published ──► (confirmed) ──► signs ──► retired ──► removed
//	            │◄──── at least PublishAhead ───►│        │◄── max token lifetime + skew ──►│
package rotation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"oidc-provider/jwks"
)

// A Phase is where a key stands in its life. It follows from the key's times
// and the clock and is stored nowhere, so that replicas with the same ring
// agree on it without talking to each other.
type Phase string

const (
	Next    Phase = "next"    // published, will sign
	Active  Phase = "active"  // signs
	Retired Phase = "retired" // published, since tokens by it may live
	Revoked Phase = "revoked" // neither
)

// Phase of the key at now. Revocation has no future: it counts from when it
// is written.
func (k *Key) Phase(now time.Time) Phase {
	switch {
	case !k.RevokedAt.IsZero():
		return Revoked
	case k.VerifyOnly:
		return Retired
	case k.SignFrom.IsZero() || now.Before(k.SignFrom):
		return Next
	case k.SignUntil.IsZero() || now.Before(k.SignUntil):
		return Active
	}
	return Retired
}

// signsLast is the last instant at which any replica may sign with the key,
// zero if that is open.
func (k *Key) signsLast() time.Time {
	switch {
	case !k.RevokedAt.IsZero():
		return k.RevokedAt
	case k.SignUntil.IsZero():
		return time.Time{}
	}
	return latest(k.SignUntil, k.MaySignUntil)
}

// RemoveAt is when the key leaves the ring: after the last token that it may
// have signed has expired on every clock, and no sooner than a replica stops
// going by a ring that came before: see [Ring.lead]. Zero if that is open.
func (k *Key) RemoveAt() time.Time {
	last := k.signsLast()
	if last.IsZero() {
		return last
	}
	return latest(last.Add(time.Duration(k.Retention)), k.MaySignUntil)
}

// Published reports whether the key is shown to kube-apiserver and, unless it
// is excluded from discovery, to the world. It does not depend on the clock: a
// key leaves when it is removed from the ring, and a replica that cannot read
// the ring any more goes on showing what it knew.
func (k *Key) Published() bool { return k.RevokedAt.IsZero() }

// InKeySet reports whether the key stands in the key set.
func (k *Key) InKeySet() bool { return k.Published() && !k.ExcludeFromDiscovery }

// Active is the key that signs at now, which [Ring.At] has turned into a time
// of this ring. A ring that Decode has accepted always has one.
func (r *Ring) Active(now time.Time) *Key { return r.first(Active, now) }

// Standby is the next key to sign. [Advance] makes sure that there is one.
func (r *Ring) Standby(now time.Time) *Key { return r.first(Next, now) }

func (r *Ring) first(phase Phase, now time.Time) *Key {
	for i := range r.Keys {
		if r.Keys[i].Phase(now) == phase {
			return &r.Keys[i]
		}
	}
	return nil
}

// At is the time of a clock that shows now, for this ring. The ring's newest
// event is past, whatever the clock says: so a hand-over that one replica has
// acted on is one for all who read of it.
func (r *Ring) At(now time.Time) time.Time { return latest(now.Round(0).UTC(), r.Updated) }

// CheckClock reports a clock that is wrong by more than the policy allows:
// one that shows a time before the ring's newest event.
func (r *Ring) CheckClock(now time.Time) error {
	if behind := r.Updated.Sub(now); behind > time.Duration(r.Policy.ClockSkew) {
		return fmt.Errorf("the clock shows %s, but the ring was last written at %s, %v later, and the policy allows for %v (hint: set the clock; if it is right, the ring was written by a machine whose clock was ahead)",
			now.UTC().Format(time.RFC3339), r.Updated.Format(time.RFC3339), behind.Round(time.Second), r.Policy.ClockSkew)
	}
	return nil
}

// An Event says what a change did to a key.
type Event struct {
	Msg      string
	KeyID    string
	Previous string    // kid of the key that was active before, if KeyID has become active
	At       time.Time // zero for at once
}

// Generate makes a new key for a policy. It is an argument of the functions
// below since they have no randomness of their own.
type Generate func(Policy) (*jwks.SigningKey, error)

// GenerateKey is the [Generate] that everybody but tests uses.
func GenerateKey(p Policy) (*jwks.SigningKey, error) { return jwks.Generate(p.Algorithm, p.RSABits) }

// New is a ring with keys of its own. The first key signs at once: nobody can
// have known it before, so a relying party that has asked for the key set of
// this issuer earlier may have to ask again.
func New(issuer string, p Policy, now time.Time, generate Generate) (*Ring, error) {
	return newRing(issuer, p, nil, now, generate)
}

// newRing is a ring that begins with active, or with a generated key if that
// is nil.
func newRing(issuer string, p Policy, active *jwks.SigningKey, now time.Time, generate Generate) (*Ring, error) {
	p = p.WithDefaults()
	if err := p.Validate(); err != nil {
		return nil, err
	}
	r := &Ring{Version: ringVersion, Issuer: issuer, Policy: p}
	r, now = r.begin(now)
	if active == nil {
		var err error
		if active, err = generate(p); err != nil {
			return nil, err
		}
	}
	if err := r.add(active, now); err != nil {
		return nil, err
	}
	r.Keys[0].SignFrom, r.Keys[0].Forced = now, true
	return r, r.ensureStandby(now, generate)
}

// Advance does what time has brought: it removes keys whose tokens have all
// expired, forgets private halves that will not sign again, makes sure that
// there is a standby, and plans its hand-over once its publication is
// confirmed and every copy has acknowledged it. confirmed is the kid of a key
// that every place shows in which a server publishes the key set. If there is
// nothing to do it returns r itself.
func Advance(r *Ring, now time.Time, confirmed string, generate Generate) (*Ring, []Event, error) {
	if err := r.CheckClock(now); err != nil {
		return r, nil, err
	}
	next, now := r.begin(now)
	events := next.removeExpired(now)
	events = append(events, next.forgetPrivate(now)...)
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
			events = append(events, Event{Msg: "publication is confirmed, hand-over waits for copies", KeyID: standby.KeyID})
		}
	}
	if !next.KnownSince(standby).IsZero() && standby.SignFrom.IsZero() {
		at, err := next.planHandOver(standby, now)
		if err != nil {
			return r, nil, err
		}
		events = append(events, Event{Msg: "publication is confirmed, hand-over planned", KeyID: standby.KeyID, At: at})
	}
	if len(events) == 0 {
		return r, nil, nil
	}
	return next, events, nil
}

// NextInstant is the next time after now at which Advance has something to
// do, as far as the ring alone can tell. Zero if there is none.
func (r *Ring) NextInstant(now time.Time) time.Time {
	var next time.Time
	for i := range r.Keys {
		k := &r.Keys[i]
		for _, t := range []time.Time{k.SignFrom, k.SignUntil, k.forgetAt(r.Policy), k.RemoveAt()} {
			if t.After(now) && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
	}
	return next
}

// planHandOver gives standby its time. PublishAhead counts from when the last
// place has shown the key, and a hand-over in the past would be one without
// notice.
func (r *Ring) planHandOver(standby *Key, now time.Time) (time.Time, error) {
	active := r.Active(now)
	earliest := latest(r.KnownSince(standby).Add(time.Duration(standby.PublishAhead)), now)
	at, err := r.Policy.handOver(active.SignFrom, earliest)
	if err != nil {
		return time.Time{}, err
	}
	r.withoutNotice(active, now)
	handOver(active, standby, at)
	return at, nil
}

// hasNoDate reports whether no replica can hold a ring in which the key signs
// at some time.
func (k *Key) hasNoDate() bool {
	return k.SignFrom.IsZero() && k.MaySignUntil.IsZero() && !k.VerifyOnly && k.RevokedAt.IsZero()
}

// inUse reports whether relying parties may have seen the ring.
func (r *Ring) inUse(now time.Time) bool {
	return slices.ContainsFunc(r.Keys, func(k Key) bool {
		return !k.ConfirmedAt.IsZero() || len(k.CopyConfirmedAt) > 0 || k.Phase(now) == Retired && !k.VerifyOnly
	})
}

// isAhead reports whether a hand-over at that time is not past on any clock. One
// so near that it may be can not be moved.
func (r *Ring) isAhead(at, now time.Time) bool {
	return now.Add(time.Duration(r.Policy.ClockSkew)).Before(at)
}

func handOver(from, to *Key, at time.Time) { from.SignUntil, to.SignFrom = at, at }

func (r *Ring) removeExpired(now time.Time) (events []Event) {
	r.Keys = slices.DeleteFunc(r.Keys, func(k Key) bool {
		at := k.RemoveAt()
		if at.IsZero() || now.Before(at) {
			return false
		}
		r.Removed = append(r.Removed, k.KeyID)
		events = append(events, Event{Msg: "every token by this key has expired, removed it", KeyID: k.KeyID})
		return true
	})
	return events
}

// forgetAt is when no replica signs with the key any more, on any clock.
func (k *Key) forgetAt(p Policy) time.Time {
	last := k.signsLast()
	if last.IsZero() || !k.hasPrivate() {
		return time.Time{}
	}
	return last.Add(time.Duration(p.ClockSkew))
}

func (r *Ring) forgetPrivate(now time.Time) (events []Event) {
	for i := range r.Keys {
		k := &r.Keys[i]
		if at := k.forgetAt(r.Policy); !at.IsZero() && !now.Before(at) {
			k.forget()
			events = append(events, Event{Msg: "forgot the private half of a retired key", KeyID: k.KeyID})
		}
	}
	return events
}

func (k *Key) forget() {
	k.Private, k.Sealed, k.signing, k.opened, k.unsealErr = nil, nil, nil, false, nil
}

// A TooEarlyError is why [Rotate] refuses: relying parties may not know the
// standby yet.
type TooEarlyError struct {
	KeyID     string
	Confirmed time.Time // when the last server or copy had it, zero if one has not
	Server    bool      // no server has confirmed it
	Copies    []string  // those that have not acknowledged it
	From      time.Time // when it could sign, zero if that is open
}

func (e *TooEarlyError) Error() string {
	switch {
	case e.Server:
		also := ""
		if len(e.Copies) > 0 {
			also = ", nor that it is in " + NameCopies(e.Copies)
		}
		return fmt.Sprintf("the publication of the next key %s is not confirmed yet%s (hint: is a server running on this store, and what does its log say? --force rotates all the same)", e.KeyID, also)
	case len(e.Copies) > 0:
		return fmt.Sprintf("the next key %s has not been acknowledged by %s (hint: bring it there, and then run `oidc-provider keys copies confirm %s %s` on this store; --force rotates all the same)", e.KeyID, NameCopies(e.Copies), e.Copies[0], e.KeyID)
	}
	return fmt.Sprintf("the next key %s is published since %s and can sign from %s (hint: wait until then, or use --force)",
		e.KeyID, e.Confirmed.Format(time.RFC3339), e.From.Format(time.RFC3339))
}

// Rotate hands over to the standby at once. That is safe if it has been
// published, and in every copy, for PublishAhead; otherwise the error is a [*TooEarlyError],
// unless force is set.
func Rotate(r *Ring, now time.Time, force bool, generate Generate) (*Ring, []Event, error) {
	if err := r.CheckClock(now); err != nil {
		return r, nil, err
	}
	next, now := r.begin(now)
	if err := next.ensureStandby(now, generate); err != nil {
		return r, nil, err
	}
	active, standby := next.Active(now), next.Standby(now)
	if err := next.checkPublishedAhead(standby, now); err != nil && !force {
		return r, nil, err
	}
	if n := len(next.Keys); n >= TooManyKeys && !force {
		return r, nil, fmt.Errorf("%d keys are published already: relying parties begin to fail at 100 (hint: wait until some are removed, or use --force)", n)
	}
	events := next.promote(active, standby, now)
	if err := next.ensureStandby(now, generate); err != nil {
		return r, nil, err
	}
	return next, events, nil
}

func (r *Ring) checkPublishedAhead(standby *Key, now time.Time) error {
	e := &TooEarlyError{KeyID: standby.KeyID, Confirmed: r.KnownSince(standby), Server: standby.ConfirmedAt.IsZero(), Copies: r.Lacking(standby)}
	if e.Confirmed.IsZero() {
		return e
	}
	if e.From = e.Confirmed.Add(time.Duration(standby.PublishAhead)); now.Before(e.From) {
		return e
	}
	return nil
}

// promote lets standby sign from now on. Replicas that do not hear of it sign
// with the active key until what they know is too old.
func (r *Ring) promote(active, standby *Key, now time.Time) []Event {
	standby.Forced = r.checkPublishedAhead(standby, now) != nil
	r.withoutNotice(active, now)
	handOver(active, standby, now)
	return []Event{
		{Msg: "the key is retired", KeyID: active.KeyID},
		{Msg: "a new key is active", KeyID: standby.KeyID, Previous: active.KeyID},
	}
}

// withoutNotice books that a replica which has read the ring for the last time
// just before now may go on signing with k for PublishAhead, by its own clock.
func (r *Ring) withoutNotice(k *Key, now time.Time) {
	k.MaySignUntil = latest(k.MaySignUntil, now.Add(time.Duration(r.Policy.PublishAhead+r.Policy.ClockSkew)))
}

// lead is how long a key that comes at now must be published before it signs.
// A shorter PublishAhead is news: until the longer one is over, replicas that
// have not heard of it may show the older ring, and caches may keep what was
// shown before.
func (r *Ring) lead(now time.Time) Duration {
	lead := r.Policy.PublishAhead
	for i := range r.Keys {
		k := &r.Keys[i]
		lead = max(lead, min(k.PublishAhead, Duration(k.MaySignUntil.Sub(now))))
	}
	return lead
}

// Revoke takes a key out of the key set at once and for good. If it was
// active, the standby signs from now on, published for long enough or not. If
// it is revoked already, Revoke returns r itself.
func Revoke(r *Ring, kid string, now time.Time, generate Generate) (*Ring, []Event, error) {
	if err := r.CheckClock(now); err != nil {
		return r, nil, err
	}
	next, now := r.begin(now)
	k := next.find(kid)
	if k == nil {
		if slices.Contains(r.Removed, kid) {
			return r, nil, fmt.Errorf("key %s was removed earlier: its tokens have expired", kid)
		}
		return r, nil, fmt.Errorf("no key %q (hint: `oidc-provider keys list` shows the kids)", kid)
	}
	phase := k.Phase(now)
	if phase == Revoked {
		return r, nil, nil
	}
	var events []Event
	switch phase {
	case Active:
		if err := next.ensureStandby(now, generate); err != nil {
			return r, nil, err
		}
		k = next.find(kid) // the keys may have moved
		events = next.promote(k, next.Standby(now), now)[1:]
	case Next:
		next.Active(now).SignUntil = time.Time{}
	}
	k.RevokedAt = now
	k.forget()
	if err := next.ensureStandby(now, generate); err != nil {
		return r, nil, err
	}
	return next, append([]Event{{Msg: "the key is revoked", KeyID: kid}}, events...), nil
}

// SetPolicy plans the ring under p from now on. A longer token lifetime
// lengthens the retention of every key that is still there; a shorter one
// never shortens that of a key that has signed, or will at a time which is
// announced. A planned hand-over is planned anew; a shorter PublishAhead counts
// in full from the first key that comes when the longer one is over, since
// caches may hold what was published under that. If nothing changes it returns
// r itself.
func SetPolicy(r *Ring, p Policy, now time.Time) (*Ring, error) {
	p = p.or(r.Policy)
	if p == r.Policy {
		return r, nil
	}
	if err := errors.Join(p.Validate(), r.CheckClock(now)); err != nil {
		return r, err
	}
	next, now := r.begin(now)
	unknown := !r.inUse(now)
	for i := range next.Keys {
		k := &next.Keys[i]
		k.PublishAhead = max(k.PublishAhead, p.PublishAhead)
		if unknown {
			k.PublishAhead = p.PublishAhead
		}
		k.Retention = max(k.Retention, p.retention())
		if k.hasNoDate() {
			k.Retention = p.retention()
		}
	}
	active, standby := next.Active(now), next.Standby(now)
	// Whoever reads of the new plan late goes by the old one, under the old
	// PublishAhead.
	next.withoutNotice(active, now)
	if standby != nil && !standby.SignFrom.IsZero() {
		next.withoutNotice(standby, now)
		if r.isAhead(standby.SignFrom, now) {
			handOver(active, standby, time.Time{})
		}
	}
	next.Policy = p
	return next, nil
}
