package etcd_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"oidc-provider/internal/store/etcd"
)

// calls counts the calls of a watch.
type calls struct {
	n, known atomic.Int32
	stop     func()
}

func startWatch(t *testing.T, s *etcd.Store) *calls {
	ctx, cancel := context.WithCancel(t.Context())
	done, c := make(chan struct{}), new(calls)
	c.stop = func() { cancel(); <-done }
	t.Cleanup(c.stop)
	go func() {
		defer close(done)
		s.Watch(ctx, func() { c.n.Add(1) })
	}()
	return c
}

// called waits for a call that no earlier called has counted.
func (c *calls) called(t *testing.T, within time.Duration) {
	t.Helper()
	eventually(t, within, "call", func() bool { return c.n.Load() > c.known.Load() })
	c.known.Store(c.n.Load())
}

func TestWatch(t *testing.T) {
	t.Parallel()
	c := newCluster()
	addr := closed(t)
	s := open(t, at(addr))
	seen := startWatch(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, _, err := s.Load(ctx)
	mustSay(t, err, true, "connection refused")
	if seen.n.Load() != 0 {
		t.Error("called without a connection")
	}

	// The member starts, stops, and starts again with an older state, whose
	// revisions are lower than those that the watch has seen.
	for _, state := range []string{"one", "restored"} {
		c = newCluster()
		m := c.start(t, addr)
		seen.called(t, 2*time.Second)
		for range 3 {
			c.put(key, state)
			seen.called(t, time.Second)
		}
		began := time.Now()
		mustLoad(t, s, state)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("Load took %v", took)
		}
		m.server.Stop()
	}
	// Another member takes over, and the watch ends with its context.
	m := c.start(t, addr)
	seen.called(t, 2*time.Second)
	if n := seen.n.Load(); n > 20 {
		t.Errorf("called %d times", n)
	}
	seen.stop()
	eventually(t, 2*time.Second, "end of the stream", func() bool { return m.streams.Load() == 0 })
}

// A refused watch keeps trying, with pauses that do not grow without limit.
func TestWatchRefused(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.deny()
	m := c.start(t, "")
	seen := startWatch(t, open(t, at(m.addr)))
	began := time.Now()
	eventually(t, 4*time.Second, "nine tries", func() bool { return m.watches.Load() >= 9 })
	if took := time.Since(began); took < time.Second || seen.n.Load() != 0 {
		t.Errorf("nine tries took %v, and there were %d calls", took, seen.n.Load())
	}
}

// After a long outage, both work again within two seconds.
func TestReconnect(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.put(key, "one")
	c.password = "secret"
	m := c.start(t, "")
	cfg := at(m.addr)
	cfg.Username, cfg.Password = "me", "secret"
	s := open(t, cfg)
	mustLoad(t, s, "one")
	// Loads create new connections; a store that only watches must replace its
	// old ones soon.
	seen := startWatch(t, open(t, cfg))
	seen.called(t, time.Second)
	m.server.Stop()
	_, _, err := s.Load(t.Context())
	mustSay(t, err, true, "connection refused")
	c.forgetTokens()
	c.start(t, m.addr)
	began := time.Now()
	v := mustLoad(t, s, "one")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Load took %v", took)
	}
	seen.called(t, time.Second)
	if err := s.Swap(t.Context(), []byte("two"), v); err != nil {
		t.Error(err)
	}
	seen.called(t, time.Second)
}
