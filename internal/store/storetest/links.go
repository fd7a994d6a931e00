package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"oidc-provider/rotation"
)

// A write whose answer is lost has succeeded. A store that repeats it would conflict
// with its own write.
func testLostAnswer(t *testing.T, b Backend) {
	var link Link
	if b.Link != nil {
		link = b.Link(t)
	}
	if link.LoseAnswer == nil {
		t.Skip("its answers cannot get lost")
	}
	s := link.Open(t)
	old := rotation.Version("")
	for _, data := range []string{"one", "two", "three"} {
		load(t, s) // opens a connection
		link.LoseAnswer()
		if err := swap(t, s, data, old); err == nil || errors.Is(err, rotation.ErrConflict) {
			t.Fatalf("Swap whose answer was lost returned %v, want an error that is not ErrConflict", err)
		}
		v := loadSoon(t, s, data)
		if v == old {
			t.Errorf("the version is still %q", v)
		}
		mustConflict(t, s, "repeating the write", old)
		mustHold(t, s, data, v)
		old = v
	}
	mustSwap(t, s, "four", old)
}

// loadSoon waits for a store that has just lost its connection, and fails the test
// unless it then holds want.
func loadSoon(t *testing.T, s rotation.Store, want string) rotation.Version {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for {
		data, v, err := s.Load(ctx)
		switch {
		case err == nil && string(data) == want && v != "":
			return v
		case err == nil:
			t.Fatalf("Load returns %s, version %q, want %s", brief(string(data)), v, brief(want))
		case ctx.Err() != nil:
			t.Fatalf("no answer within %v: %v", soon, err)
		}
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

// testReconnect runs all cuts at once: most of their time is waiting.
func testReconnect(t *testing.T, fresh func(t *testing.T) Backend) {
	var names []string
	if b := fresh(t); b.Link != nil {
		names = slices.Sorted(maps.Keys(b.Link(t).Cuts))
	}
	if len(names) == 0 {
		t.Skip("it has no connection to cut")
	}
	for _, name := range names {
		for _, tt := range []struct {
			when string
			test func(t *testing.T, other rotation.Store, link Link, cut func() func())
		}{
			{"Running", testCut},
			{"FromTheBeginning", testCutFromTheBeginning},
		} {
			t.Run(name+tt.when, func(t *testing.T) {
				b := fresh(t)
				other, link := b.Open(t), b.Link(t)
				t.Parallel()
				tt.test(t, other, link, link.Cuts[name])
			})
		}
	}
}

// write replaces the document, whichever it is, by data.
func write(t *testing.T, s rotation.Store, data string) {
	t.Helper()
	_, v := load(t, s)
	mustSwap(t, s, data, v)
}

// pendingCalls is time for the reader to start a call during the cut. A store may
// still wait for the connection of such a call after the link is restored.
const pendingCalls = 100 * time.Millisecond

// testCut cuts off a store that has worked, and its watches.
func testCut(t *testing.T, other rotation.Store, link Link, cut func() func()) {
	s := link.Open(t)
	write(t, other, "before")
	_, v := load(t, s)
	watch := startWatch(t, s)
	leaving := startWatch(t, s)
	watch.sees("before")

	restore := cut()
	defer restore()
	reader := startReader(t, s)
	reader.fails(1)
	began := time.Now()
	err := swap(t, s, "never", v)
	took := time.Since(began)
	if !errors.Is(err, rotation.ErrUnavailable) || errors.Is(err, rotation.ErrConflict) || took > giveUp {
		t.Errorf("Swap on an unreachable backend returned %v after %v, want ErrUnavailable", err, took)
	}
	mustReturn(t, s)
	leaving.end()
	write(t, other, "meanwhile")
	reader.fails(1)
	if reader.works() {
		t.Error("Load on an unreachable backend returned a document")
	}

	time.Sleep(pendingCalls)
	restore()
	reader.finds("meanwhile")
	watch.sees("meanwhile")
	write(t, other, "afterwards")
	watch.sees("afterwards")
	reader.end()
	write(t, s, "its own")
	watch.sees("its own")
	watch.end()
	if n := watch.called.Load(); n > 100 {
		t.Errorf("Watch called %d times for five changes and an outage", n)
	}
}

// testCutFromTheBeginning opens a store while its backend is unreachable.
func testCutFromTheBeginning(t *testing.T, other rotation.Store, link Link, cut func() func()) {
	write(t, other, "before")
	restore := cut()
	defer restore()
	s := link.Open(t)
	reader, watch := startReader(t, s), startWatch(t, s)
	reader.fails(1)
	mustReturn(t, s)
	time.Sleep(pendingCalls)
	restore()
	reader.finds("before")
	watch.sees("before")
	write(t, other, "afterwards")
	watch.sees("afterwards")
}

// mustReturn checks that calls of s, whose backend is unreachable, return when their
// context ends, which is earlier than the timeouts of s.
func mustReturn(t *testing.T, s rotation.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	returned := make(chan error, 2)
	go func() {
		_, _, err := s.Load(ctx)
		returned <- err
		returned <- s.Swap(ctx, []byte("never"), "no such version")
	}()
	for range cap(returned) {
		select {
		case err := <-returned:
			if err == nil || errors.Is(err, rotation.ErrConflict) {
				t.Errorf("an unreachable backend answers with %v", err)
			}
		case <-time.After(soon):
			t.Fatalf("the calls do not return within %v of the end of their context", soon)
		}
	}
}

// A reader calls Load again and again, as a rotator does while its store fails.
type reader struct {
	t       *testing.T
	results chan result
	stop    context.CancelFunc
	done    chan struct{}
}

type result struct {
	data string
	err  error
}

func startReader(t *testing.T, s rotation.Store) *reader {
	ctx, cancel := context.WithCancel(t.Context())
	r := &reader{t: t, results: make(chan result, 1000), stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for ctx.Err() == nil {
			each, cancel := context.WithTimeout(ctx, patience)
			data, _, err := s.Load(each)
			cancel()
			select {
			case <-ctx.Done():
			case r.results <- result{string(data), err}:
			}
			pause(ctx)
		}
	}()
	t.Cleanup(r.end)
	return r
}

func (r *reader) end() { r.stop(); <-r.done }

// fails waits for n results, which must all be failures.
func (r *reader) fails(n int) {
	r.t.Helper()
	for range n {
		select {
		case got := <-r.results:
			if got.err == nil {
				r.t.Fatalf("Load on an unreachable backend returned %s", brief(got.data))
			}
			if !errors.Is(got.err, rotation.ErrUnavailable) {
				r.t.Errorf("Load failed with %v, want ErrUnavailable", got.err)
			}
		case <-time.After(giveUp):
			r.t.Fatalf("Load does not fail within %v", giveUp)
		}
	}
}

// works reports whether any result that has arrived is a success.
func (r *reader) works() bool {
	waiting := make([]result, len(r.results))
	for i := range waiting {
		waiting[i] = <-r.results
	}
	return slices.ContainsFunc(waiting, func(got result) bool { return got.err == nil })
}

// finds waits for a success, which must arrive soon and return want.
func (r *reader) finds(want string) {
	r.t.Helper()
	began := time.Now()
	within := time.After(soon)
	for {
		select {
		case got := <-r.results:
			if got.err != nil {
				continue
			}
			if got.data != want {
				r.t.Fatalf("Load returns %s, want %s", brief(got.data), brief(want))
			}
			r.t.Logf("read %v after the link was restored", time.Since(began).Round(time.Millisecond))
			return
		case <-within:
			r.t.Fatalf("Load does not work again within %v", soon)
		}
	}
}
