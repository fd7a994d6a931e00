package etcd_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oidc-provider/internal/store/etcd"
	"oidc-provider/rotation"
)

// A write is never sent again, even if its answer is lost.
func TestLostAnswer(t *testing.T) {
	for name, lose := range map[string]func(context.Context, *member) error{
		"connection": func(ctx context.Context, m *member) error { go m.server.Stop(); <-ctx.Done(); return nil },
		"deadline": func(context.Context, *member) error {
			return status.Error(codes.DeadlineExceeded, "context deadline exceeded")
		},
		"cancelled": func(context.Context, *member) error {
			return status.Error(codes.Canceled, "etcdserver: request cancelled")
		},
		"leader": func(context.Context, *member) error {
			return status.Error(codes.Unavailable, "etcdserver: leader changed")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			m, well := c.start(t, ""), c.start(t, "")
			s := open(t, at(m.addr))
			mustLoad(t, s, "")
			after := func(ctx context.Context) error { return lose(ctx, m) }
			m.after.Store(&after)
			err := s.Swap(t.Context(), []byte("one"), "")
			if !errors.Is(err, rotation.ErrUnavailable) || errors.Is(err, rotation.ErrConflict) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if n := c.asked(); n != 1 {
				t.Errorf("the write was sent %d times", n)
			}
			mustLoad(t, open(t, at(well.addr)), "one")
		})
	}
}

// silent returns an address that accepts connections and never answers.
func silent(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestSilentMember(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.put(key, "one")
	m, paused := c.start(t, ""), c.start(t, "")
	s := open(t, at(silent(t), paused.addr, m.addr))
	began := time.Now()
	v := mustLoad(t, s, "one")
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("Load took %v", took)
	}
	if paused.loads.Load() == 0 || m.loads.Load() != 0 {
		t.Error("the members were not asked in turn")
	}
	seen := startWatch(t, s)
	seen.called(t, time.Second)

	// The member is paused, and keeps its connections.
	paused.paused.Store(true)
	began = time.Now()
	if err := s.Swap(t.Context(), []byte("two"), v); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Swap took %v", took)
	}
	seen.called(t, time.Second)
	before := paused.loads.Load()
	mustLoad(t, s, "two")
	if paused.loads.Load() != before {
		t.Error("the paused member was asked again")
	}
	// A watch moves to the next member even without a Load.
	alone := startWatch(t, open(t, at(paused.addr, silent(t), m.addr)))
	alone.called(t, 4*time.Second)
}

// A read whose answer is lost is sent again.
func TestLostRequest(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.put(key, "one")
	m := c.start(t, "")
	m.paused.Store(true)
	go func() {
		for m.loads.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		m.paused.Store(false) // for all but the first
	}()
	began := time.Now()
	mustLoad(t, open(t, at(m.addr)), "one")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Load took %v", took)
	}
}

// closed returns an address that refuses connections.
func closed(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	withPassword := func(cfg etcd.Config) etcd.Config {
		cfg.Username, cfg.Password = "me", "secret"
		return cfg
	}
	refused, mute := closed(t), silent(t)
	unknown := newCluster().start(t, "")
	unknown.paused.Store(true)
	for name, tt := range map[string]struct {
		cfg   etcd.Config
		words []string
	}{
		"refused":               {at(refused), []string{refused, "connection refused", "check that etcd runs"}},
		"refused with password": {withPassword(at(refused)), []string{refused, "connection refused", "check that etcd runs"}},
		"silent":                {at(mute), []string{mute, "server preface", "port for clients"}},
		"silent with password":  {withPassword(at(mute)), []string{mute}},
		"paused":                {at(unknown.addr), []string{unknown.addr, "quorum"}},
		"one of each": {at(refused, mute, unknown.addr),
			[]string{refused + ": ", mute + ": ", unknown.addr + ": ", "connection refused"}},
	} {
		s, hasty := open(t, tt.cfg), open(t, tt.cfg)
		wg.Go(func() {
			began := time.Now()
			_, _, err := s.Load(t.Context())
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("%s: Load took %v", name, took)
			}
			mustSay(t, err, true, append(tt.words, "reading etcd key "+key)...)
		})
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			began := time.Now()
			if _, _, err := hasty.Load(ctx); !errors.Is(err, rotation.ErrUnavailable) || time.Since(began) > time.Second {
				t.Errorf("%s: Load for 50ms: %v after %v", name, err, time.Since(began))
			}
		})
	}
	wg.Wait()
}
