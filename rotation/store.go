package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Version names one state of a store. It is opaque: the empty one stands
// for an empty store.
type Version string

// A Store holds one ring document and nothing else. Its methods may be called
// by many goroutines and processes at once.
type Store interface {
	// Load returns the document and its version. An empty store returns
	// nil, "", nil. Load never waits for a writer.
	Load(ctx context.Context) (data []byte, v Version, err error)

	// Swap replaces the document if its version is still old ("" = must not
	// exist yet). It is durable on return. ErrConflict means that someone
	// else was first and nothing was written. After any other error the
	// document may or may not have been replaced, and only Load can tell; or
	// it may yet be, for as long as its version is old. The lifecycle allows
	// for that up to half of the policy's ClockSkew.
	Swap(ctx context.Context, data []byte, old Version) error
}

// A Watcher is a [Store] that tells of changes. It is a matter of speed alone:
// whoever watches polls as well.
type Watcher interface {
	Store

	// Watch calls changed soon after every change of the document, and each
	// time that it begins to watch, since it may have missed one before. It
	// returns when ctx is done, and mends what breaks until then. changed
	// must not block.
	Watch(ctx context.Context, changed func())
}

// ErrUnavailable is in the errors of a store that cannot be reached just now:
// what was tried may work later, with nothing else changed.
var ErrUnavailable = errors.New("the store cannot be reached")

// ErrConflict is what [Store.Swap] returns when the document has another
// version than the caller thought.
var ErrConflict = errors.New("the store was changed by someone else")

// ErrEmpty is what is wrong with a store that has no ring yet.
var ErrEmpty = errors.New("the store holds no ring (hint: make one with `oidc-provider keys init`, or bring a cluster's own key with `oidc-provider keys import`)")

// Read loads the ring of any issuer. Sealed private keys stay closed: see
// [Ring.Unseal].
func Read(ctx context.Context, store Store) (*Ring, error) {
	r, _, err := read(ctx, store)
	return r, err
}

func read(ctx context.Context, store Store) (*Ring, Version, error) {
	data, v, err := store.Load(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("reading the ring: %w", err)
	}
	if v == "" {
		return nil, "", ErrEmpty
	}
	r, err := Decode(data)
	if err != nil {
		return nil, "", err
	}
	return r, v, nil
}

// seal is what it takes to write r: the ring with nothing bare, and its
// document.
func seal(ctx context.Context, r *Ring, sealer Sealer) (*Ring, []byte, error) {
	r, err := r.Seal(ctx, sealer)
	if err != nil {
		return nil, nil, err
	}
	data, err := r.Encode()
	return r, data, err
}

// Create puts r into an empty store, and refuses to touch any other. sealer
// may be nil for a ring that is plain.
func Create(ctx context.Context, store Store, sealer Sealer, r *Ring) error {
	_, data, err := seal(ctx, r, sealer)
	if err != nil {
		return err
	}
	switch err := store.Swap(ctx, data, ""); {
	case errors.Is(err, ErrConflict):
		return errors.New("the store holds a ring already, which was left as it is (hint: `oidc-provider keys list` shows it)")
	case err != nil:
		return fmt.Errorf("writing the new ring: %w", err)
	}
	return nil
}

// Update replaces the ring in store by what change makes of it, again from
// the start whenever somebody else was faster. If change returns the ring it
// was given, nothing is written. New keys are sealed as the ring says; those
// that are sealed already stay closed.
func Update(ctx context.Context, store Store, sealer Sealer, change func(*Ring) (*Ring, error)) (*Ring, error) {
	for {
		old, v, err := read(ctx, store)
		if err != nil {
			return nil, err
		}
		changed, err := change(old)
		if err != nil || changed == old {
			return old, err
		}
		changed, data, err := seal(ctx, changed, sealer)
		if err != nil {
			return nil, err
		}
		switch err = store.Swap(ctx, data, v); {
		case err == nil:
			return changed, nil
		case !errors.Is(err, ErrConflict):
			return nil, fmt.Errorf("writing the ring, which may or may not have been changed (hint: look with `oidc-provider keys list`): %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
