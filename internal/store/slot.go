package store

import "context"

// A slot is for calls that may hang, such as those to a network file system that
// is unreachable. They cannot be interrupted, so a caller leaves them behind, and
// at most one is under way.
type slot chan struct{}

func newSlot() slot { return make(slot, 1) }

// run calls f in a goroutine, and returns its error, or that of ctx if it is done
// first. It calls undo if f succeeds after that.
func (s slot) run(ctx context.Context, f func() error, undo func()) error {
	select {
	case s <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	result := make(chan error)
	go func() {
		defer func() { <-s }()
		err := f()
		select {
		case result <- err:
		case <-ctx.Done():
			if err == nil {
				undo()
			}
		}
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
