package rotation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"oidc-provider/internal/hint"
)

// This file has the changes that operators make: rotation ahead of the schedule,
// revocation, and another policy.

// A TooEarlyError is the reason why [Rotate] refuses: relying parties may not
// have the next key yet.
type TooEarlyError struct {
	KeyID     string
	Confirmed time.Time // the last confirmation by a server or copy, zero if one is missing
	Server    bool      // no server has confirmed the key
	Copies    []string  // the copies that have not confirmed it
	From      time.Time // when it can sign, zero if that is not decided yet
}

func (e *TooEarlyError) Error() string {
	switch {
	case e.Server && len(e.Copies) > 0:
		return fmt.Sprintf("the publication of the next key %s is not confirmed yet, neither by a server nor by %s",
			e.KeyID, NameCopies(e.Copies))
	case e.Server:
		return fmt.Sprintf("the publication of the next key %s is not confirmed yet", e.KeyID)
	case len(e.Copies) > 0:
		return fmt.Sprintf("the next key %s is not confirmed yet by %s", e.KeyID, NameCopies(e.Copies))
	}
	return fmt.Sprintf("the next key %s is published since %s and can sign from %s",
		e.KeyID, e.Confirmed.Format(time.RFC3339), e.From.Format(time.RFC3339))
}

// Hint returns what to do about it.
func (e *TooEarlyError) Hint() string {
	switch {
	case e.Server:
		return "is a server running on this store, and what does its log say? {option.force} rotates anyway"
	case len(e.Copies) > 0:
		return fmt.Sprintf("update the copy, then run `oidc-provider keys copies confirm %s %s` on this store; "+
			"{option.force} rotates anyway", e.Copies[0], e.KeyID)
	}
	return "wait until then; {option.force} rotates anyway"
}

// Rotate makes the next key active at once. That is safe if the key has been
// published, and has been in every copy, for PublishAhead. Otherwise the error
// is a [*TooEarlyError], unless force is set.
func Rotate(r *Ring, now time.Time, force bool, generate Generate) (*Ring, []Event, error) {
	if err := r.CheckClock(now); err != nil {
		return r, nil, err
	}
	next, now := r.begin(now)
	if err := next.ensureStandby(now, generate); err != nil {
		return r, nil, err
	}
	active, standby := next.Active(now), next.Standby(now)
	if standby.struck {
		return r, nil, hint.Errorf("start a server that can sign the ring, which makes another next key",
			"the next key %s was revoked", standby.KeyID)
	}
	if err := next.checkPublishedAhead(standby, now); err != nil && !force {
		return r, nil, err
	}
	if n := len(next.Keys); n >= TooManyKeys && !force {
		return r, nil, hint.Errorf("wait until some are removed; {option.force} rotates anyway",
			"%d keys are published already: relying parties start to fail at 100", n)
	}
	events := next.promote(active, standby, now)
	if err := next.ensureStandby(now, generate); err != nil {
		return r, nil, err
	}
	return next, events, nil
}

func (r *Ring) checkPublishedAhead(standby *Key, now time.Time) error {
	e := &TooEarlyError{
		KeyID: standby.KeyID, Confirmed: r.KnownSince(standby),
		Server: standby.ConfirmedAt.IsZero(), Copies: r.Lacking(standby),
	}
	if e.Confirmed.IsZero() {
		return e
	}
	if e.From = e.Confirmed.Add(time.Duration(standby.PublishAhead)); now.Before(e.From) {
		return e
	}
	return nil
}

// promote makes standby active from now on. Replicas that do not read of it
// sign with the old key until what they know is too old.
func (r *Ring) promote(active, standby *Key, now time.Time) []Event {
	standby.Forced = r.checkPublishedAhead(standby, now) != nil
	r.withoutNotice(active, now)
	activate(active, standby, now)
	return []Event{
		{Msg: "the key is retired", KeyID: active.KeyID},
		{Msg: "a new key is active", KeyID: standby.KeyID, Previous: active.KeyID},
	}
}

// Revoke removes a key from the key set at once and permanently. If it was
// active, the next key becomes active, published long enough or not. If the key
// is revoked already, Revoke returns r itself.
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
		return r, nil, r.errNoKey(kid)
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
	k.deletePrivate()
	if err := next.ensureStandby(now, generate); err != nil {
		return r, nil, err
	}
	return next, append([]Event{{Msg: "the key is revoked", KeyID: kid}}, events...), nil
}

// errNoKey returns the error for a kid that is not in the ring.
func (r *Ring) errNoKey(kid string) error {
	const shared = 4 // characters at one end: a kid that was cut off, or mistyped
	for _, k := range r.Keys {
		if n := min(shared, len(kid)); n == shared && (strings.HasPrefix(k.KeyID, kid[:n]) ||
			strings.HasSuffix(k.KeyID, kid[len(kid)-n:])) {
			return hint.Errorf(fmt.Sprintf("did you mean %s?", k.KeyID), "the ring has no key %q", kid)
		}
	}
	return hint.Errorf("`oidc-provider keys list` lists the kids", "the ring has no key %q", kid)
}

// SetPolicy puts r under p from now on. The zero fields of p keep their value. A
// longer token lifetime extends the retention of every key in the ring. A
// shorter one never shortens the retention of a key that has signed, or whose
// activation is planned. A planned activation is planned again. A shorter
// PublishAhead counts in full for keys that are added when the longer one is
// over, since caches may hold what was published under it. If nothing changes,
// SetPolicy returns r itself.
func SetPolicy(r *Ring, p Policy, now time.Time) (*Ring, error) {
	p = p.Or(r.Policy)
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
	// A replica that reads of the new plan late follows the old one, under the
	// old PublishAhead.
	next.withoutNotice(active, now)
	if standby != nil && !standby.SignFrom.IsZero() {
		next.withoutNotice(standby, now)
		if r.isAhead(standby.SignFrom, now) {
			activate(active, standby, time.Time{})
		}
	}
	next.Policy = p
	return next, nil
}

// hasNoDate reports whether no replica can hold a ring in which the key signs
// at some time.
func (k *Key) hasNoDate() bool {
	return k.SignFrom.IsZero() && k.MaySignUntil.IsZero() && !k.VerifyOnly && k.RevokedAt.IsZero()
}

// inUse reports whether relying parties may have fetched keys of the ring.
func (r *Ring) inUse(now time.Time) bool {
	return slices.ContainsFunc(r.Keys, func(k Key) bool {
		return !k.ConfirmedAt.IsZero() || len(k.CopyConfirmedAt) > 0 || k.Phase(now) == Retired
	})
}

// isAhead reports whether at is still in the future on every clock. If not, an
// activation at that time cannot be moved any more.
func (r *Ring) isAhead(at, now time.Time) bool {
	return now.Add(time.Duration(r.Policy.ClockSkew)).Before(at)
}
