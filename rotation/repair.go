package rotation

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"oidc-provider/internal/hint"
)

// maxRepairs is more repairs than one rollback state should miss.
const maxRepairs = 4

// A ClockRepair marks a ring whose Updated went back, from From, in Generation.
type ClockRepair struct {
	Generation int64     `json:"generation"`
	From       time.Time `json:"from"`
}

// RepairClock puts right a ring from the future: one that was written by a machine
// whose clock was ahead. What the ring says has happened after now becomes now, as
// a revocation, or has not happened: then the key that is active at now keeps
// signing, and the activation is planned again. No key loses a token by that: keys
// that some replica may sign with stay published for long enough. now must come
// from a clock that is known to be right.
func RepairClock(r *Ring, now time.Time) (*Ring, error) {
	if r.CheckClock(now) == nil {
		return r, hint.Errorf("if servers say that it is, their clocks are behind",
			"the ring is not from the future: it was last written at %s", r.Updated.Format(time.RFC3339))
	}
	next, future := r.begin(now)
	now = r.lastEvent(now)
	next.Updated = now
	marks := append(slices.Clone(r.ClockRepairs), ClockRepair{next.Generation, future})
	next.ClockRepairs = marks[max(0, len(marks)-maxRepairs):]
	next.Version = next.version()
	next.repairTimes(now)
	next.repairPlans(now, r.Active(future).KeyID)
	return next, nil
}

// lastEvent returns now, or an event of a key that is later by no more than the
// skew: this clock may be behind the one that noted it.
func (r *Ring) lastEvent(now time.Time) time.Time {
	last := now.Round(0).UTC()
	note := func(at time.Time) {
		if !r.isAhead(at, now) {
			last = latest(last, at)
		}
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		note(k.Created)
		note(k.ConfirmedAt)
		note(k.RevokedAt)
		for _, at := range k.CopyConfirmedAt {
			note(at)
		}
	}
	return last
}

// repairTimes moves what has happened after now to now. No replica can follow an older
// ring for longer than the longest PublishAhead of it.
func (r *Ring) repairTimes(now time.Time) {
	ahead := r.Policy.PublishAhead
	for i := range r.Keys {
		ahead = max(ahead, r.Keys[i].PublishAhead)
	}
	until := now.Add(time.Duration(ahead + r.Policy.ClockSkew))
	r.Copies = slices.Clone(r.Copies)
	for i := range r.Copies {
		r.Copies[i].Since = earliest(r.Copies[i].Since, now)
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.Created.After(now) {
			k.PublishAhead = ahead // it was added when an older one seemed to be over
		}
		k.Created, k.PublishAt = earliest(k.Created, now), earliest(k.PublishAt, now)
		k.ConfirmedAt, k.RevokedAt = earliest(k.ConfirmedAt, now), earliest(k.RevokedAt, now)
		k.MaySignUntil = earliest(k.MaySignUntil, until)
		k.CopyConfirmedAt = maps.Clone(k.CopyConfirmedAt) // rings are immutable
		for name, at := range k.CopyConfirmedAt {
			k.CopyConfirmedAt[name] = earliest(at, now)
		}
	}
}

// repairPlans takes back the activations after now, except for one that may have
// happened on another clock by now. last is the key that was active in the future:
// it signs from now on if none does.
func (r *Ring) repairPlans(now time.Time, last string) {
	active := r.Active(now)
	if active == nil || !active.hasPrivate() {
		if active != nil {
			active.SignUntil = now
			r.withoutNotice(active, now)
		}
		active = r.find(last)
		active.SignFrom = now
		active.Forced = r.checkPublishedAhead(active, now) != nil
	}
	ends := active.SignUntil
	active.SignUntil = time.Time{}
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.KeyID == active.KeyID || k.Phase(now) != Next || k.SignFrom.IsZero() {
			continue
		}
		at := k.SignFrom
		// Replicas that took the future for the present may have signed with it.
		r.withoutNotice(k, now)
		k.SignFrom, k.SignUntil, k.Forced = time.Time{}, time.Time{}, false
		switch {
		case !k.hasPrivate():
			k.SignFrom, k.SignUntil = now, now
		case at.Equal(ends) && !r.isAhead(at, now) && active.SignUntil.IsZero():
			activate(active, k, at)
			k.Forced = r.checkPublishedAhead(k, at) != nil
		}
	}
}

// repaired reports whether Updated may be earlier than what was seen.
func (r *Ring) repaired(seen Seen) bool {
	return slices.ContainsFunc(r.ClockRepairs, func(c ClockRepair) bool {
		return c.Generation > seen.Generation && !seen.Updated.After(c.From)
	})
}

// checkRepairs does the part of check for repairs.
func (r *Ring) checkRepairs() error {
	last := int64(1)
	for _, c := range r.ClockRepairs {
		if c.Generation <= last || c.Generation > r.Generation || c.From.IsZero() || len(r.ClockRepairs) > maxRepairs {
			return fmt.Errorf("%d repairs, one of generation %d", len(r.ClockRepairs), c.Generation)
		}
		last = c.Generation
	}
	return nil
}

func earliest(a, b time.Time) time.Time {
	if a.After(b) {
		return b
	}
	return a
}
