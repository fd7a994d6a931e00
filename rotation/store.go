package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"oidc-provider/internal/hint"
)

// A Version identifies one state of a store. It is opaque. The empty version
// means an empty store and nothing else.
type Version string

// A Store holds one ring document and nothing else. Its methods may be called
// by several goroutines and processes at once.
type Store interface {
	// Load returns the document and its version. An empty store returns
	// nil, "", nil. Load never waits for a writer.
	Load(ctx context.Context) (data []byte, v Version, err error)

	// Swap replaces the document if its version is still old ("" = must not
	// exist yet). It is durable on return. ErrConflict means that another
	// writer was first and nothing was written. After any other error the
	// document may or may not have been replaced, and only Load shows which; or
	// it may still be replaced later, as long as its version is old. The
	// lifecycle allows up to half of the policy's ClockSkew for that.
	Swap(ctx context.Context, data []byte, old Version) error
}

// A Watcher is a [Store] that reports changes. This only makes things faster:
// callers that watch poll as well.
type Watcher interface {
	Store

	// Watch calls changed soon after every change of the document, and each
	// time that it starts to watch, since it may have missed a change before.
	// It reconnects after failures and returns when ctx is done. changed must
	// not block.
	Watch(ctx context.Context, changed func())
}

// ErrUnavailable is wrapped by the errors of a store that is unreachable at the
// moment: the same operation may succeed later.
var ErrUnavailable = errors.New("the store is unreachable")

// ErrConflict is the error of [Store.Swap] when the document has another version
// than the caller expects.
var ErrConflict = errors.New("another process has changed the store")

// ErrEmpty is the error for a store without a ring.
var ErrEmpty = errors.New("the store holds no ring")

// A RefusedError is the reason why what a store holds is not the ring: it cannot be
// read, belongs to another issuer, or has disappeared. A ring that was forged has an
// [*UntrustedError] as well, and an old one a [*PastError].
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// Read loads the ring of any issuer. It does not open sealed private keys: see
// [Ring.Unseal]. It returns [ErrEmpty] if there is no ring.
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

// Create writes r into an empty store, and refuses any other store. sealer may
// be nil for a plain ring that is not signed.
func Create(ctx context.Context, store Store, sealer Sealer, r *Ring) error {
	r, err := r.Seal(ctx, sealer)
	if err != nil {
		return err
	}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	switch err := store.Swap(ctx, data, ""); {
	case errors.Is(err, ErrConflict):
		return hint.Errorf("`oidc-provider keys list` lists its keys",
			"the store holds a ring already, which was left unchanged")
	case err != nil:
		return fmt.Errorf("writing the new ring: %w", err)
	}
	return nil
}

// Update replaces the ring in store by the result of change. If another writer
// is faster, it starts again. If change returns the ring that it was given,
// nothing is written. New keys are sealed for the ring's recipients. Keys that
// are sealed already are not opened. It returns an [*UntrustedError] if the ring
// is not one that a trusts: a change would sign it.
func Update(ctx context.Context, store Store, a Access, change func(*Ring) (*Ring, error)) (*Ring, error) {
	var changed *Ring
	err := replace(ctx, store, a, func(old *Ring) ([]byte, error) {
		var err error
		if changed, err = change(old); err != nil || changed == old {
			changed = old
			return nil, err
		}
		if changed, err = changed.Seal(ctx, a.Sealer); err != nil {
			return nil, err
		}
		return changed.Encode()
	})
	return changed, err
}

// replace replaces the document in store by the result of change, unless that is
// nil.
func replace(ctx context.Context, store Store, a Access, change func(*Ring) ([]byte, error)) error {
	for {
		old, v, err := read(ctx, store)
		if err != nil {
			return err
		}
		if err := a.Verify(ctx, old); err != nil {
			return err
		}
		data, err := change(old)
		if err != nil || data == nil {
			return err
		}
		switch err = store.Swap(ctx, data, v); {
		case err == nil:
			return nil
		case !errors.Is(err, ErrConflict):
			return hint.Errorf("check with `oidc-provider keys list`",
				"writing the ring, which may or may not have been changed: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
