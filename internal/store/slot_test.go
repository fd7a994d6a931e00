package store

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A call that hangs is left behind, and is the only one until it ends.
func TestSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlot()
		release := make(chan struct{})
		var calls, undone atomic.Int32
		hang := func() error { calls.Add(1); <-release; return nil }
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			started := time.Now()
			if err := s.run(ctx, hang, func() { undone.Add(1) }); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(started); took != time.Second {
				t.Errorf("it took %v", took)
			}
			cancel()
		}
		if calls.Load() != 1 {
			t.Errorf("%d calls", calls.Load())
		}
		close(release)
		synctest.Wait()
		if undone.Load() != 1 {
			t.Errorf("undone %d times", undone.Load())
		}
		failure := errors.New("failure")
		for _, want := range []error{nil, failure} {
			if err := s.run(t.Context(), func() error { return want }, func() { undone.Add(1) }); err != want {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		if undone.Load() != 1 {
			t.Errorf("undone %d times", undone.Load())
		}
	})
}
