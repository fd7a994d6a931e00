package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"oidc-provider/internal/hint"
)

// tick does one step: it reads the ring, opens its keys or changes it, then
// adopts the result, and then publishes it. The order matters: commit first,
// then publish. again reports whether there is more to do at once.
func (r *Rotator) tick(ctx context.Context, now time.Time) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	view, again, err := r.step(ctx, now)
	if view != nil {
		r.adopt(view, now)
	} else if r.View() == nil {
		return false, err
	}
	err = errors.Join(err, r.publish(ctx, now))
	if view != nil {
		err = errors.Join(err, r.reader.rollback.keep(ctx, view.ring))
	}
	return again || err == nil && r.canConfirm(now), err
}

// step returns the view that follows the current one. A ring that is new, and
// keys that have been opened, are a step of their own: what must be published
// or must stop signing does not wait for a plugin or for a write. Without a
// read the view is nil, and the current one remains.
func (r *Rotator) step(ctx context.Context, now time.Time) (view *View, again bool, err error) {
	var known *Ring
	if v := r.View(); v != nil {
		known = v.ring
	}
	ring, err := r.reader.read(ctx, known)
	if err != nil {
		if known != nil {
			r.clock.observe(now, known)
			r.narrator.changes(known, r.clock.at(known, now))
		}
		return nil, false, err
	}
	r.clock.observe(now, ring)
	r.narrator.changes(ring, r.clock.at(ring, now))
	if id := r.reader.truster.firstUse; id != nil && ring != known {
		r.narrator.firstUse(*id)
	}
	if ring != known {
		r.writer.retry.soon() // the write whose answer was lost may have succeeded
		return &View{ring: ring}, !r.cfg.PublishOnly, nil
	}
	if r.cfg.PublishOnly {
		return &View{ring: ring}, false, nil
	}
	ring, openErr := r.reader.open(ctx, ring, now)
	if ring != known {
		return &View{ring: ring}, true, openErr
	}
	view, again, err = r.advance(ctx, ring, now)
	return view, again, errors.Join(openErr, err)
}

// advance does what is due, unless the clock may be wrong or the ring old. What a
// [Revocation] has taken away does not wait: if need be, it is revoked at the ring's
// own time.
func (r *Rotator) advance(ctx context.Context, ring *Ring, now time.Time) (view *View, again bool, err error) {
	at, err := now, r.mayAdvance(ring, now)
	if err != nil || now.Before(ring.Updated) {
		// In the second case, the clock of the last writer is ahead of this one: its
		// events are past soon.
		if ring.struck(now) == nil {
			return &View{ring: ring}, false, err
		}
		at = ring.Updated
	}
	view, events, err := r.writer.advance(ctx, ring, r.reader.version, r.confirmed, now, at)
	if view.ring != ring {
		r.reader.mustRead = true // only a read returns the version of what was written
		r.narrator.wrote(view.ring, events)
	}
	if errors.Is(err, ErrConflict) {
		return view, true, nil
	}
	return view, false, err
}

// mayAdvance returns the reason why this replica must not change ring by the clock.
func (r *Rotator) mayAdvance(ring *Ring, now time.Time) error {
	if err := r.clock.mayWrite(now, ring); err != nil {
		return err
	}
	for _, s := range r.cfg.Witnessed {
		if err := ring.CheckAgainst(s); err != nil {
			return hint.Errorf("`oidc-provider keys import` adds the key; or restore the newest ring",
				"nothing is written: %v", err) // whose hint says the same
		}
	}
	return nil
}

// adopt makes v the current view, known to be the newest at now. If nothing
// has changed the current view remains.
func (r *Rotator) adopt(v *View, now time.Time) {
	if known := r.View(); known == nil || *known != *v {
		r.view.Store(v)
	}
	r.read.Store(&now)
}

// publish gives the current view to every publisher, unless all have it.
func (r *Rotator) publish(ctx context.Context, now time.Time) error {
	v := r.View()
	if r.published == v.ring {
		return nil
	}
	var errs []error
	for _, p := range r.cfg.Publishers {
		if err := p.Publish(ctx, v); err != nil {
			errs = append(errs, fmt.Errorf("publishing the key set: %w", err))
		}
	}
	r.unpublished.Store(len(errs) > 0)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	r.published = v.ring
	// A key that does not open here may not open anywhere.
	if next := v.ring.Standby(v.ring.At(now)); next != nil && next.signing != nil {
		r.confirmed = next.KeyID
	}
	r.narrator.published(len(v.KeySet()))
	return nil
}

// canConfirm reports whether the next tick will confirm the next key. The
// current tick must not: its time is from before the publication.
func (r *Rotator) canConfirm(now time.Time) bool {
	ring := r.View().ring
	next := ring.Standby(ring.At(now))
	return !now.Before(ring.Updated) && next != nil && next.ConfirmedAt.IsZero() && next.KeyID == r.confirmed
}
