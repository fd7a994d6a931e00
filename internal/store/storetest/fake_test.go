package storetest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"oidc-provider/internal/store/storetest"
	"oidc-provider/rotation"
)

func TestFakes(t *testing.T) {
	for _, kind := range storetest.Kinds {
		t.Run(kind.String(), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Backend { return backend(storetest.NewFake(kind)) })
		})
	}
}

func backend(f *storetest.Fake) storetest.Backend {
	return storetest.Backend{
		Open: func(*testing.T) rotation.Store { return f.Handle().Store() },
		Link: func(*testing.T) storetest.Link {
			h := f.Handle()
			link := storetest.Link{
				Open:       func(*testing.T) rotation.Store { return h.Store() },
				LoseAnswer: func() { f.FailSwap(storetest.FailAfter) },
			}
			if f.Kind() == storetest.KindEtcd || f.Kind() == storetest.KindSecret {
				link.Cuts = map[string]func() func(){"Cut": func() func() {
					h.SetCut(true)
					return func() { h.SetCut(false) }
				}}
			}
			return link
		},
	}
}

// TestFaults checks each fault of a Swap, and the document after it.
func TestFaults(t *testing.T) {
	for _, kind := range storetest.Kinds {
		for _, tt := range []struct {
			fault    storetest.Fault
			conflict bool
			want     string // the document
		}{
			{storetest.FailBefore, false, "one"},
			{storetest.FailAfter, false, "two"},
			{storetest.LoseRace, true, "one"},
			{storetest.Late, false, "one"},
		} {
			f, ctx := storetest.NewFake(kind), t.Context()
			var written []string
			f.OnWrite = func(data []byte) { written = append(written, string(data)) }
			s, other := f.Handle(), f.Handle()
			if err := s.Swap(ctx, []byte("one"), ""); err != nil {
				t.Fatal(err)
			}
			_, v, _ := s.Load(ctx)

			other.SetCut(true)
			f.FailSwap(tt.fault)
			if err := other.Swap(ctx, []byte("never"), v); err == nil || !other.Cut() {
				t.Errorf("%v: Swap through a disconnected handle succeeded", kind)
			}
			err := s.Swap(ctx, []byte("two"), v)
			if err == nil || errors.Is(err, rotation.ErrConflict) != tt.conflict {
				t.Errorf("%v, fault %d: Swap returned %v", kind, tt.fault, err)
			}
			if got := string(f.Data()); got != tt.want || got != written[len(written)-1] {
				t.Errorf("%v, fault %d: the document is %q, want %q; writes: %q", kind, tt.fault, got, tt.want, written)
			}
			if got, want := f.Counts(), (storetest.Counts{Writes: len(written), Faults: 1}); got != want {
				t.Errorf("%v, fault %d: counts %+v, want %+v", kind, tt.fault, got, want)
			}
			_, v, _ = s.Load(ctx)
			if err := s.Swap(ctx, []byte("three"), v); err != nil {
				t.Errorf("%v, fault %d: the Swap after it: %v", kind, tt.fault, err)
			}
		}
	}
}

// A late write happens once, and only if the document has not changed.
func TestLate(t *testing.T) {
	for _, kind := range storetest.Kinds {
		remote := kind == storetest.KindEtcd || kind == storetest.KindSecret
		f, ctx := storetest.NewFake(kind), t.Context()
		s := f.Handle()
		late := func(data string) rotation.Version {
			_, v, _ := s.Load(ctx)
			f.FailSwap(storetest.Late)
			if err := s.Swap(ctx, []byte(data), v); err == nil {
				t.Errorf("%v: no error", kind)
			}
			return v
		}
		if v := late("one"); f.Data() != nil {
			t.Errorf("%v: the write over version %q was not late", kind, v)
		}
		if landed := f.Land(); landed != remote || landed != (string(f.Data()) == "one") {
			t.Errorf("%v: Land returned %v, the document is %q", kind, landed, f.Data())
		}
		if f.Put(nil); f.Land() {
			t.Errorf("%v: the late write happened twice", kind)
		}
		if v := late("two"); s.Swap(ctx, []byte("between"), v) != nil || f.Land() || string(f.Data()) != "between" {
			t.Errorf("%v: the late write replaced another one: the document is %q", kind, f.Data())
		}
		late("three")
		late("four")
		if f.Land(); remote && string(f.Data()) != "three" {
			t.Errorf("%v: after two late writes the document is %q, want the first", kind, f.Data())
		}
	}
}

// TestVersions checks which changes the versions of each kind show.
func TestVersions(t *testing.T) {
	for _, kind := range storetest.Kinds {
		f, ctx := storetest.NewFake(kind), t.Context()
		s := f.Handle()
		version := func() rotation.Version {
			t.Helper()
			_, v, err := s.Load(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		put := func(data string) rotation.Version { f.Put([]byte(data)); return version() }

		one := put("one")
		f.Touch()
		if touched := version() != one; touched != (kind == storetest.KindSecret) || string(f.Data()) != "one" {
			t.Errorf("%v: changed by a touch: %v", kind, touched)
		}
		put("two")
		if same := put("one") == one; same != (kind == storetest.KindFile) {
			t.Errorf("%v: the same document has the same version: %v", kind, same)
		}
		f.Put(nil)
		if data, v, err := s.Load(ctx); data != nil || v != "" || err != nil {
			t.Errorf("%v: after removal %q, version %q, %v", kind, data, v, err)
		}
		f.FailLoad()
		if _, _, err := s.Load(ctx); err == nil {
			t.Errorf("%v: Load did not fail", kind)
		}
		version() // Load fails only once
	}
}

// A deaf watch misses changes, and reports them later. So does a disconnected one.
func TestDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ctx := storetest.NewFake(storetest.KindEtcd), t.Context()
		h := f.Handle()
		ctx, cancel := context.WithCancel(ctx)
		called, done := 0, make(chan struct{})
		go func() {
			defer close(done)
			h.Store().(rotation.Watcher).Watch(ctx, func() { called++ })
		}()
		want := func(n int, when string) {
			t.Helper()
			if synctest.Wait(); called != n {
				t.Errorf("%s: called %d times, want %d", when, called, n)
			}
		}
		want(1, "at the beginning")
		f.Put([]byte("one"))
		want(2, "after a change")
		f.Touch()
		want(2, "after a change elsewhere")
		for _, set := range []func(bool){h.SetDeaf, h.SetCut} {
			before := called
			set(true)
			f.Put([]byte("two"))
			f.Put([]byte("three"))
			want(before, "deaf")
			set(false)
			want(before+1, "hearing again")
		}
		cancel()
		<-done
		f.Put([]byte("four"))
		want(4, "ended")
	})
	if _, watches := storetest.NewFake(storetest.KindFile).Handle().Store().(rotation.Watcher); watches {
		t.Error("a file is a Watcher")
	}
}
