package storetest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"oidc-provider/rotation"
)

func testWatch(t *testing.T, b Backend) {
	s, other := b.Open(t), b.Open(t)
	if _, watches := s.(rotation.Watcher); !watches {
		t.Skip("it has no Watch")
	}
	v := mustSwap(t, s, "one", "")
	first, second := startWatch(t, s), startWatch(t, other)
	both := func(want string) {
		t.Helper()
		first.sees(want)
		second.sees(want)
	}
	both("one")
	v = mustSwap(t, other, "two", v)
	both("two")
	v = mustSwap(t, s, "three", v)
	both("three")
	mustSwap(t, b.Open(t), "", v)
	both("")
	for _, data := range []string{"a", "b", "c", "d"} {
		write(t, other, data)
	}
	both("d")

	first.end()
	write(t, other, "e")
	second.sees("e")
	before := first.called.Load()
	second.end()
	if first.called.Load() != before {
		t.Error("Watch calls after it has returned")
	}
	if n := second.called.Load(); n > 100 {
		t.Errorf("Watch called %d times for nine changes", n)
	}
	startWatch(t, s).sees("e")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		s.(rotation.Watcher).Watch(ended, func() {})
	}()
	select {
	case <-returned:
	case <-time.After(soon):
		t.Errorf("Watch does not return within %v, although its context has ended", soon)
	}
}

func testWatchEmpty(t *testing.T, b Backend) {
	s := b.Open(t)
	if _, watches := s.(rotation.Watcher); !watches {
		t.Skip("it has no Watch")
	}
	watch := startWatch(t, s)
	watch.seesNothing()
	write(t, b.Open(t), "one")
	watch.sees("one")
}

// A watch reads the document only when Watch calls.
type watch struct {
	t      *testing.T
	s      rotation.Store
	calls  chan struct{}
	called atomic.Int32
	stop   context.CancelFunc
	done   chan struct{}
}

// startWatch starts to watch s. If s has no Watch, the watch reads without waiting.
func startWatch(t *testing.T, s rotation.Store) *watch {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{t: t, s: s, calls: make(chan struct{}, 1), stop: cancel, done: make(chan struct{})}
	watcher, watches := s.(rotation.Watcher)
	if !watches {
		close(w.calls)
		close(w.done)
		return w
	}
	go func() {
		defer close(w.done)
		watcher.Watch(ctx, func() {
			w.called.Add(1)
			select {
			case w.calls <- struct{}{}:
			default:
			}
		})
		if ctx.Err() == nil {
			t.Error("Watch returned before its context ended")
		}
	}()
	t.Cleanup(w.end)
	return w
}

// end ends the watch, and fails the test if Watch does not return.
func (w *watch) end() {
	w.t.Helper()
	w.stop()
	select {
	case <-w.done:
	case <-time.After(soon):
		w.t.Errorf("Watch does not return within %v of its context's end", soon)
	}
}

func (w *watch) sees(want string) {
	w.t.Helper()
	w.waitFor(brief(want), func(data string, v rotation.Version) bool { return data == want && v != "" })
}

func (w *watch) seesNothing() {
	w.t.Helper()
	w.waitFor("an empty store", func(_ string, v rotation.Version) bool { return v == "" })
}

// waitFor reads after each call of the watch, until found reports true.
func (w *watch) waitFor(what string, found func(string, rotation.Version) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), soon)
	defer cancel()
	last := "Watch has not called"
	for {
		select {
		case <-w.calls:
		case <-ctx.Done():
			w.t.Fatalf("Watch does not report %s within %v: %s", what, soon, last)
		}
		data, v, err := w.s.Load(ctx)
		for err != nil && ctx.Err() == nil {
			pause(ctx)
			data, v, err = w.s.Load(ctx)
		}
		if err == nil && found(string(data), v) {
			return
		}
		last = "after a call, Load returns " + brief(string(data))
		if err != nil {
			last = err.Error()
		}
	}
}
