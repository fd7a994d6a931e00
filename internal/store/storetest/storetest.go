// Package storetest has the conformance tests of stores, [Run], and hostile fakes of
// stores, [NewFake].
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"oidc-provider/rotation"
)

// A Backend keeps one document, or none. Several stores can share it.
type Backend struct {
	// Open returns a new store for the backend, as another process would open
	// it. It is closed when t ends.
	Open func(t *testing.T) rotation.Store

	// Link returns a connection to the backend that tests can disturb. Nil if
	// there is no network between a store and its backend.
	Link func(t *testing.T) Link

	// MaxDocument is the size in bytes above which documents are refused; 0 means
	// that the limit is not tested.
	MaxDocument int
}

// A Link is the connection of one process to a backend. Disturbing it leaves all
// other connections intact.
type Link struct {
	// Open returns a new store that uses the link.
	Open func(t *testing.T) rotation.Store

	// Cuts are the ways in which the backend can become unreachable, by name.
	// Each lasts until restore is called.
	Cuts map[string]func() (restore func())

	// LoseAnswer makes the next write succeed and its answer disappear. Nil if
	// the link cannot do this.
	LoseAnswer func()
}

const (
	// patience is how long one call may take before the test fails. It equals
	// the default of [rotation.Config.Timeout].
	patience = 30 * time.Second

	// giveUp is how long a store may take to notice that it has no connection.
	// Its callers wait that long.
	giveUp = 10 * time.Second

	// soon is how long a store may take to report a change, and to work again
	// after an outage.
	soon = 2 * time.Second
)

// Run checks that a store obeys the contracts of [rotation.Store] and, if it
// implements it, of [rotation.Watcher]. Each subtest calls fresh for an empty
// backend.
func Run(t *testing.T, fresh func(t *testing.T) Backend) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, Backend)
	}{
		{"Empty", testEmpty},
		{"FirstWrite", testFirstWrite},
		{"Conflict", testConflict},
		{"Bytes", testBytes},
		{"LargeDocument", testLargeDocument},
		{"TooLarge", testTooLarge},
		{"ConcurrentWriters", testConcurrentWriters},
		{"CancelledContext", testCancelledContext},
		{"Watch", testWatch},
		{"WatchEmpty", testWatchEmpty},
		{"LostAnswer", testLostAnswer},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, fresh(t)) })
	}
	t.Run("Reconnect", func(t *testing.T) { testReconnect(t, fresh) })
}

func load(t *testing.T, s rotation.Store) (string, rotation.Version) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	data, v, err := s.Load(ctx)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return string(data), v
}

func swap(t *testing.T, s rotation.Store, data string, old rotation.Version) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return s.Swap(ctx, []byte(data), old)
}

// mustSwap writes data and returns its version.
func mustSwap(t *testing.T, s rotation.Store, data string, old rotation.Version) rotation.Version {
	t.Helper()
	if err := swap(t, s, data, old); err != nil {
		t.Fatalf("Swap of version %q: %v", old, err)
	}
	got, v := load(t, s)
	if got != data || v == "" || v == old {
		t.Fatalf("after Swap of version %q, Load returns %s with version %q, want %s with another one",
			old, brief(got), v, brief(data))
	}
	return v
}

func mustConflict(t *testing.T, s rotation.Store, what string, old rotation.Version) {
	t.Helper()
	if err := swap(t, s, "never", old); !errors.Is(err, rotation.ErrConflict) {
		t.Errorf("%s: Swap of version %q returned %v, want ErrConflict", what, old, err)
	}
}

func mustHold(t *testing.T, s rotation.Store, want string, version rotation.Version) {
	t.Helper()
	if data, v := load(t, s); data != want || v != version {
		t.Errorf("Load returns %s, version %q, want %s, version %q", brief(data), v, brief(want), version)
	}
}

func brief(data string) string {
	if len(data) > 60 {
		return fmt.Sprintf("%.20q… (%d bytes)", data, len(data))
	}
	return fmt.Sprintf("%q", data)
}

// nonsense are versions that no store returns.
var nonsense = []rotation.Version{
	"no such version", "0", "-1", "1.5", "9223372036854775807", "99999999999999999999", " ", "\x00",
}

func testEmpty(t *testing.T, b Backend) {
	s := b.Open(t)
	ctx := t.Context()
	for range 2 {
		if data, v, err := s.Load(ctx); data != nil || v != "" || err != nil {
			t.Fatalf("an empty store holds %q, version %q, %v", data, v, err)
		}
		for _, v := range nonsense {
			mustConflict(t, s, "the store is empty", v)
		}
	}
}

func testFirstWrite(t *testing.T, b Backend) {
	s, other := b.Open(t), b.Open(t)
	load(t, other) // it has seen the empty store
	v := mustSwap(t, s, "one", "")
	mustHold(t, other, "one", v)
	mustHold(t, b.Open(t), "one", v)
	mustConflict(t, s, "the second first write", "")
	mustConflict(t, other, "the second first write", "")
	mustHold(t, s, "one", v)
}

func testConflict(t *testing.T, b Backend) {
	s, other := b.Open(t), b.Open(t)
	v1 := mustSwap(t, s, "one", "")
	v2 := mustSwap(t, other, "two", v1)
	mustConflict(t, s, "an old version", v1)
	mustConflict(t, other, "an old version", v1)
	for _, v := range slices.Concat(nonsense, []rotation.Version{"", v2 + "0", v2 + " ", v1 + v2}) {
		mustConflict(t, s, "a version of nonsense", v)
	}
	mustHold(t, other, "two", v2)
	v3 := mustSwap(t, s, "three", v2)
	mustConflict(t, other, "an old version", v2)
	mustHold(t, s, "three", v3)
}

// A document may be any bytes, or none. Callers may change the slices that they
// pass or receive.
func testBytes(t *testing.T, b Backend) {
	s, ctx := b.Open(t), t.Context()
	if err := s.Swap(ctx, nil, ""); err != nil {
		t.Fatalf("Swap of nil: %v", err)
	}
	_, v := load(t, s)
	mustConflict(t, s, "a store with an empty document is not empty", "")
	mustHold(t, b.Open(t), "", v)
	var all []byte
	for b := range 256 {
		all = append(all, byte(b))
	}
	want := string(all) + " \r\n\t{\"a\":1}\n\n"
	v = mustSwap(t, s, want, v)

	mine := []byte("mine")
	if err := s.Swap(ctx, mine, v); err != nil {
		t.Fatal(err)
	}
	copy(mine, "evil")
	data, v, err := s.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	copy(data, "evil")
	mustHold(t, s, "mine", v)
	mustHold(t, b.Open(t), "mine", v)
	mustSwap(t, s, "", v)
	mustConflict(t, s, "a store with an emptied document is not empty", "")
}

// The document is about as large as a ring of 450 keys. A Secret holds 1 MiB.
func testLargeDocument(t *testing.T, b Backend) {
	s := b.Open(t)
	large := string(bytes.Repeat([]byte("0123456789\x80\xff\x00\"\n"), 60_000))
	v := mustSwap(t, s, large, "")
	mustHold(t, b.Open(t), large, v)
	v = mustSwap(t, s, large[1:], v)
	mustSwap(t, s, "small", v)
}

func testTooLarge(t *testing.T, b Backend) {
	if b.MaxDocument == 0 {
		t.Skip("it has no limit")
	}
	s := b.Open(t)
	v := mustSwap(t, s, "one", "")
	for _, old := range []rotation.Version{v, ""} {
		err := swap(t, s, strings.Repeat("x", b.MaxDocument+1), old)
		if err == nil || old == v && errors.Is(err, rotation.ErrConflict) || errors.Is(err, rotation.ErrUnavailable) {
			t.Errorf("Swap with more than %d bytes returned %v, want an error that says so", b.MaxDocument, err)
		}
	}
	mustHold(t, s, "one", v)
}

// Each of many writers adds its lines, one at a time: no line may get lost, and only
// one writer may create the document.
func testConcurrentWriters(t *testing.T, b Backend) {
	const handles, perHandle, lines = 4, 2, 10
	var writers sync.WaitGroup
	for h := range handles {
		s := b.Open(t)
		for w := range perHandle {
			writers.Go(func() {
				for n := range lines {
					if err := addLine(t, s, fmt.Sprintf("%d.%d.%d\n", h, w, n)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	writers.Wait()

	data, _ := load(t, b.Open(t))
	if got := strings.Count(data, "\n"); got != handles*perHandle*lines {
		t.Errorf("the document has %d lines, want %d", got, handles*perHandle*lines)
	}
	for h := range handles {
		for w := range perHandle {
			after := 0
			for n := range lines {
				line := fmt.Sprintf("\n%d.%d.%d\n", h, w, n)
				at := strings.Index("\n"+data, line)
				if at < after || strings.Count("\n"+data, line) != 1 {
					t.Errorf("line %q occurs %d times, or too early", line, strings.Count("\n"+data, line))
				}
				after = at
			}
		}
	}
}

func addLine(t *testing.T, s rotation.Store, line string) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		data, v, err := s.Load(ctx)
		if err == nil {
			err = s.Swap(ctx, append(data, line...), v)
		}
		// On a busy machine, the others may hold a lock for long.
		if !errors.Is(err, rotation.ErrConflict) && (err == nil || !strings.Contains(err.Error(), "holds the lock")) {
			return err
		}
	}
}

func testCancelledContext(t *testing.T, b Backend) {
	s := b.Open(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{cancelled, expired} {
		if err := s.Swap(ctx, []byte("never"), ""); err == nil || errors.Is(err, rotation.ErrConflict) {
			t.Errorf("Swap into an empty store, %v: got %v", ctx.Err(), err)
		}
	}
	if data, v := load(t, s); data != "" || v != "" {
		t.Fatalf("%q was written", data)
	}
	v := mustSwap(t, s, "one", "")
	for _, ctx := range []context.Context{cancelled, expired} {
		if err := s.Swap(ctx, []byte("never"), v); err == nil || errors.Is(err, rotation.ErrConflict) {
			t.Errorf("Swap, %v: got %v", ctx.Err(), err)
		}
		if _, _, err := s.Load(ctx); err == nil {
			t.Errorf("Load, %v: no error", ctx.Err())
		}
	}
	mustHold(t, s, "one", v)
	mustSwap(t, s, "two", v)
}
