package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A writer plans changes of the ring and writes them to the store. It belongs
// to one goroutine.
type writer struct {
	store    Store
	sealer   Sealer
	generate Generate
	retry    retry
}

// advance does what is due at the time at in ring, whose version in the store is
// version. It returns the view that holds afterwards, and what has happened to keys
// if the ring was written. After a failed write it waits before it makes new keys for
// another attempt; reading continues meanwhile.
func (w *writer) advance(
	ctx context.Context, ring *Ring, version Version, confirmed string, now, at time.Time,
) (*View, []Event, error) {
	if w.retry.waits(now) {
		return &View{ring: ring}, nil, w.retry.err
	}
	view := &View{ring: ring}
	next, events, err := w.plan(ring, confirmed, at)
	switch {
	case err != nil:
		err = fmt.Errorf("planning the ring: %w", err)
	case next != ring:
		view, err = w.write(ctx, ring, next, version)
	}
	w.retry.done(err, now)
	return view, events, err
}

// plan returns the ring that follows. Keys that a [Revocation] takes away come first.
func (w *writer) plan(ring *Ring, confirmed string, at time.Time) (*Ring, []Event, error) {
	if k := ring.struck(at); k != nil {
		return Revoke(ring, k.KeyID, at, w.generate)
	}
	return Advance(ring, at, confirmed, w.generate)
}

// write replaces ring by next and returns the view that holds afterwards. After
// any error but ErrConflict either may be in the store.
func (w *writer) write(ctx context.Context, ring, next *Ring, version Version) (*View, error) {
	next, err := next.Seal(ctx, w.sealer)
	if err != nil {
		return &View{ring: ring}, err
	}
	if err := w.checkOpens(ctx, ring, next); err != nil {
		return &View{ring: ring}, err
	}
	data, err := next.Encode()
	if err != nil {
		return &View{ring: ring}, err
	}
	switch err = w.store.Swap(ctx, data, version); {
	case errors.Is(err, ErrConflict):
		return &View{ring: ring}, err
	case err != nil:
		return &View{ring: ring, pending: next}, fmt.Errorf("writing the ring: %w", err)
	}
	return &View{ring: next}, nil
}

// checkOpens makes sure that this replica can open the keys that it has added
// to ring and sealed. If it cannot, others may not either, and no replica could
// sign with them.
func (w *writer) checkOpens(ctx context.Context, ring, next *Ring) error {
	closed := next.clone()
	for i := range closed.Keys {
		if k := &closed.Keys[i]; ring.find(k.KeyID) == nil {
			k.opened = false
		}
	}
	if _, err := closed.Unseal(ctx, w.sealer); err != nil {
		return fmt.Errorf("a new key was not written, since it could not be opened again: %w", err)
	}
	return nil
}
