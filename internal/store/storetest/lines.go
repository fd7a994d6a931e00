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

// A write whose answer is lost has landed. A store that tries it again by
// itself would meet its own write and call it somebody else's.
func testLostAnswer(t *testing.T, p Place) {
	var line Line
	if p.Line != nil {
		line = p.Line(t)
	}
	if line.LoseAnswer == nil {
		t.Skip("no answer can get lost")
	}
	s := line.Open(t)
	old := rotation.Version("")
	for _, data := range []string{"one", "two", "three"} {
		load(t, s) // a connection is there
		line.LoseAnswer()
		if err := swap(t, s, data, old); err == nil || errors.Is(err, rotation.ErrConflict) {
			t.Fatalf("Swap whose answer was lost returned %v, want an error that is not ErrConflict", err)
		}
		v := loadSoon(t, s, data)
		if v == old {
			t.Errorf("the version is still %q", v)
		}
		mustConflict(t, s, "trying the write again", old)
		mustHold(t, s, data, v)
		old = v
	}
	mustSwap(t, s, "four", old)
}

// loadSoon waits for a store that has just lost its connection, and fails the
// test if it then holds anything else.
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
			t.Fatalf("the place holds %s, version %q, want %s", brief(string(data)), v, brief(want))
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

// testReconnect runs all cuts at once: they are a matter of waiting.
func testReconnect(t *testing.T, fresh func(t *testing.T) Place) {
	var names []string
	if p := fresh(t); p.Line != nil {
		names = slices.Sorted(maps.Keys(p.Line(t).Cuts))
	}
	if len(names) == 0 {
		t.Skip("there is nothing to cut")
	}
	for _, name := range names {
		for _, tt := range []struct {
			when string
			test func(t *testing.T, other rotation.Store, line Line, cut func() func())
		}{
			{"Running", testCut},
			{"FromTheBeginning", testCutFromTheBeginning},
		} {
			t.Run(name+tt.when, func(t *testing.T) {
				p := fresh(t)
				other, line := p.Open(t), p.Line(t)
				t.Parallel()
				tt.test(t, other, line, line.Cuts[name])
			})
		}
	}
}

// write puts data into the place whatever there is now.
func write(t *testing.T, s rotation.Store, data string) {
	t.Helper()
	_, v := load(t, s)
	mustSwap(t, s, data, v)
}

// callsOnTheWay lets the reader begin with a call. A store may hold on to what
// such a call waits for when the line is long restored.
const callsOnTheWay = 100 * time.Millisecond

// testCut cuts off a handle that has worked, and with it its watch.
func testCut(t *testing.T, other rotation.Store, line Line, cut func() func()) {
	s := line.Open(t)
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
	if err := swap(t, s, "never", v); !errors.Is(err, rotation.ErrUnavailable) || errors.Is(err, rotation.ErrConflict) || time.Since(began) > giveUp {
		t.Errorf("Swap of a place that cannot be reached returned %v after %v, want ErrUnavailable", err, time.Since(began))
	}
	mustReturn(t, s)
	leaving.end()
	write(t, other, "meanwhile")
	reader.fails(1)
	if reader.works() {
		t.Error("Load found a document in a place that cannot be reached")
	}

	time.Sleep(callsOnTheWay)
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
		t.Errorf("Watch has called %d times, for five changes and an outage", n)
	}
}

// testCutFromTheBeginning opens the handle when there is nothing at its end.
func testCutFromTheBeginning(t *testing.T, other rotation.Store, line Line, cut func() func()) {
	write(t, other, "before")
	restore := cut()
	defer restore()
	s := line.Open(t)
	reader, watch := startReader(t, s), startWatch(t, s)
	reader.fails(1)
	mustReturn(t, s)
	time.Sleep(callsOnTheWay)
	restore()
	reader.finds("before")
	watch.sees("before")
	write(t, other, "afterwards")
	watch.sees("afterwards")
}

// mustReturn calls s, which cannot be reached, for less time than it would
// take of its own accord.
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
				t.Errorf("a place that cannot be reached answers with %v", err)
			}
		case <-time.After(soon):
			t.Fatalf("no return within %v of the context's end", soon)
		}
	}
}

// A reader loads all the time, as a rotator does whose store fails.
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

// fails waits for n failures, and wants no successes among them.
func (r *reader) fails(n int) {
	r.t.Helper()
	for range n {
		select {
		case got := <-r.results:
			if got.err == nil {
				r.t.Fatalf("Load found %s in a place that cannot be reached", brief(got.data))
			}
			if !errors.Is(got.err, rotation.ErrUnavailable) {
				r.t.Errorf("Load failed with %v, want ErrUnavailable", got.err)
			}
		case <-time.After(giveUp):
			r.t.Fatalf("Load does not give up within %v", giveUp)
		}
	}
}

// works reports whether any of the results that wait is not a failure.
func (r *reader) works() bool {
	waiting := make([]result, len(r.results))
	for i := range waiting {
		waiting[i] = <-r.results
	}
	return slices.ContainsFunc(waiting, func(got result) bool { return got.err == nil })
}

// finds waits for a success, which must come soon and be the truth.
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
			r.t.Logf("read %v after the line was restored", time.Since(began).Round(time.Millisecond))
			return
		case <-within:
			r.t.Fatalf("Load does not work again within %v", soon)
		}
	}
}
