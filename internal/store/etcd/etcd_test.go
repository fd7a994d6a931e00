package etcd_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oidc-provider/internal/store/etcd"
	"oidc-provider/rotation"
)

const key = "/oidc-provider/ring"

func open(t *testing.T, cfg etcd.Config) *etcd.Store {
	t.Helper()
	cfg.Key = key
	s, err := etcd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func at(addrs ...string) etcd.Config { return etcd.Config{Endpoints: addrs} }

func mustLoad(t *testing.T, s *etcd.Store, want string) rotation.Version {
	t.Helper()
	data, v, err := s.Load(t.Context())
	if err != nil || string(data) != want {
		t.Fatalf("Load returned %.40q, %q, %v, want %.40q", data, v, err, want)
	}
	return v
}

// mustSay checks that err has all the words and is what it is.
func mustSay(t *testing.T, err error, unavailable bool, words ...string) {
	t.Helper()
	if err == nil || errors.Is(err, rotation.ErrConflict) || errors.Is(err, rotation.ErrUnavailable) != unavailable {
		t.Errorf("got %v, want ErrUnavailable: %v", err, unavailable)
		return
	}
	for _, w := range append(words, "(hint: ") {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "desc =") {
		t.Errorf("%q tells what nobody should know, or wants to", err)
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ spec, endpoints, key, fault string }{
		{spec: "etcd://a", endpoints: "a:2379"},
		{spec: "etcds://a/", endpoints: "a:2379"},
		{spec: "ETCDS://A:1", endpoints: "A:1"},
		{spec: "etcd://a:1,b,10.0.0.1:65535", endpoints: "a:1 b:2379 10.0.0.1:65535"},
		{spec: "etcd://[::1]:2380,[fe80::2]", endpoints: "[::1]:2380 [fe80::2]:2379"},
		{spec: "etcd://a/p", endpoints: "a:2379", key: "/p/ring"},
		{spec: "etcd://a/p/q//", endpoints: "a:2379", key: "/p/q/ring"},
		{spec: "etcd://a/registry-of-mine", endpoints: "a:2379", key: "/registry-of-mine/ring"},
		{spec: "etcd://a/x/registry", endpoints: "a:2379", key: "/x/registry/ring"},

		{spec: "a:2379", fault: "etcd://HOST"},
		{spec: "http://a", fault: "etcd://HOST"},
		{spec: "etcd:a", fault: "etcd://HOST"},
		{spec: "etcd://", fault: "not a host"},
		{spec: "etcd:///p", fault: "not a host"},
		{spec: "etcd://a,/p", fault: "not a host"},
		{spec: "etcd://:2379", fault: "not a host"},
		{spec: "etcd://a, b", fault: "not a host"},
		{spec: "etcd://::1", fault: "brackets"},
		{spec: "etcd://a:b:1", fault: "not a host"},
		{spec: "etcd://a:x", fault: "not a host"},
		{spec: "etcd://a:0", fault: "no valid port"},
		{spec: "etcd://a:65536", fault: "no valid port"},
		{spec: "etcd://me:secret@a", fault: "--etcd-user"},
		{spec: "etcd://me:se/cret@a", fault: "--etcd-user"},
		{spec: "etcd://a?x=y", fault: "neither ? nor #"},
		{spec: "etcd://a/p#x", fault: "neither ? nor #"},
		{spec: "etcd://a/registry", fault: "kube-apiserver"},
		{spec: "etcd://a/registry/p/", fault: "kube-apiserver"},
		{spec: "etcd://a//registry", fault: "write /registry"},
		{spec: "etcd://a/p/../registry", fault: "write /registry"},
	} {
		endpoints, got, tls, err := etcd.Parse(tt.spec)
		if tt.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fault) || !strings.Contains(err.Error(), "(hint: ") || strings.Contains(err.Error(), "cret") {
				t.Errorf("%s: got %v, %v, want an error with %q", tt.spec, endpoints, err, tt.fault)
			}
			continue
		}
		if tt.key == "" {
			tt.key = key
		}
		if err != nil || strings.Join(endpoints, " ") != tt.endpoints || got != tt.key || tls != strings.HasPrefix(strings.ToLower(tt.spec), "etcds") {
			t.Errorf("%s: got %v, %s, %v, %v", tt.spec, endpoints, got, tls, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []etcd.Config{
		{Key: key},
		{Endpoints: []string{"a:1"}},
		{Endpoints: []string{"https://a:1"}, Key: key},
		{Endpoints: []string{"a:1"}, Key: key, Username: "me"},
		{Endpoints: []string{"a:1"}, Key: key, Password: "secret"},
	} {
		_, err := etcd.New(cfg)
		mustSay(t, err, false)
	}
}

func TestSwap(t *testing.T) {
	c := newCluster()
	c.limit = 3 << 19 // as etcd has it
	m := c.start(t, "")
	s, other, ctx := open(t, at(m.addr)), open(t, at("http://"+m.addr)), t.Context()
	if data, v, err := s.Load(ctx); data != nil || v != "" || err != nil {
		t.Fatalf("an empty store holds %q, version %q, %v", data, v, err)
	}
	if err := s.Swap(ctx, []byte("one"), ""); err != nil {
		t.Fatal(err)
	}
	v := mustLoad(t, other, "one")
	if v != "2" {
		t.Errorf("version is %q, want the revision", v)
	}
	for _, old := range []rotation.Version{"", "0", "1", "3", "-2", "x"} {
		if err := other.Swap(ctx, []byte("no"), old); err != rotation.ErrConflict {
			t.Errorf("version %q: got %v, want ErrConflict", old, err)
		}
	}
	large := strings.Repeat("x", 1_400_000)
	if err := other.Swap(ctx, []byte(large), v); err != nil {
		t.Fatal(err)
	}
	v = mustLoad(t, s, large)

	// What is larger than a request may be, and than gRPC takes.
	for _, size := range []int{c.limit, 5 << 20} {
		err := s.Swap(ctx, make([]byte, size), v)
		mustSay(t, err, false, "nothing was written", "--max-request-bytes", key)
	}
	before := c.asked()
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Swap(cancelled, nil, v); !errors.Is(err, context.Canceled) || errors.Is(err, rotation.ErrUnavailable) {
		t.Errorf("Swap, cancelled: %v", err)
	}
	if _, _, err := s.Load(cancelled); !errors.Is(err, context.Canceled) || errors.Is(err, rotation.ErrUnavailable) {
		t.Errorf("Load, cancelled: %v", err)
	}
	if again := mustLoad(t, s, large); again != v || c.asked() != before {
		t.Errorf("something was written")
	}
	s.Close()
	if _, _, err := s.Load(ctx); err == nil || errors.Is(err, rotation.ErrUnavailable) {
		t.Errorf("Load after Close: %v", err)
	}
}

// A write is never sent again, whatever becomes of its answer.
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
			if err := s.Swap(t.Context(), []byte("one"), ""); !errors.Is(err, rotation.ErrUnavailable) || errors.Is(err, rotation.ErrConflict) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if n := c.asked(); n != 1 {
				t.Errorf("the write was sent %d times", n)
			}
			mustLoad(t, open(t, at(well.addr)), "one")
		})
	}
}

// silent is an address that takes connections and says nothing.
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

	// It keeps its connections.
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
	// A watch gets past it, though nobody loads.
	alone := startWatch(t, open(t, at(paused.addr, silent(t), m.addr)))
	alone.called(t, 4*time.Second)
}

// What got lost is asked again.
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

// nobody is an address that refuses connections.
func nobody(t *testing.T) string {
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
	refused, mute := nobody(t), silent(t)
	unknown := newCluster().start(t, "")
	unknown.paused.Store(true)
	for name, tt := range map[string]struct {
		cfg   etcd.Config
		words []string
	}{
		"refused":               {at(refused), []string{refused, "connection refused", "is etcd running"}},
		"refused with password": {withPassword(at(refused)), []string{refused, "connection refused", "is etcd running"}},
		"silent":                {at(mute), []string{mute, "server preface", "port for clients"}},
		"silent with password":  {withPassword(at(mute)), []string{mute}},
		"paused":                {at(unknown.addr), []string{unknown.addr, "quorum"}},
		"one of each":           {at(refused, mute, unknown.addr), []string{refused + ": ", mute + ": ", unknown.addr + ": ", "connection refused"}},
	} {
		s, hasty := open(t, tt.cfg), open(t, tt.cfg)
		wg.Go(func() {
			began := time.Now()
			_, _, err := s.Load(t.Context())
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("%s: Load took %v", name, took)
			}
			mustSay(t, err, true, append(tt.words, "reading "+key)...)
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

// calls counts what a watch tells.
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

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(began) > within {
			t.Fatalf("no %s within %v", what, within)
		}
	}
}

// called waits for a call after those that were waited for.
func (c *calls) called(t *testing.T, within time.Duration) {
	t.Helper()
	eventually(t, within, "call", func() bool { return c.n.Load() > c.known.Load() })
	c.known.Store(c.n.Load())
}

func TestWatch(t *testing.T) {
	t.Parallel()
	c := newCluster()
	addr := nobody(t)
	s := open(t, at(addr))
	seen := startWatch(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, _, err := s.Load(ctx)
	mustSay(t, err, true, "connection refused")
	if seen.n.Load() != 0 {
		t.Error("called without a connection")
	}

	// It comes up, and then goes and comes back with an older state, whose
	// revisions are lower than those that were seen.
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

// A watch that is refused goes on trying, neither all the time nor ever less.
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
	// Who loads makes new connections; who only watches must not wait long
	// with the old ones.
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

func TestAuthentication(t *testing.T) {
	c := newCluster()
	c.password = "secret"
	c.put(key, "one")
	m := c.start(t, "")
	wrong, right := at(m.addr), at(m.addr)
	wrong.Username, wrong.Password = "me", "secret of somebody else"
	right.Username, right.Password = "me", "secret"
	for _, cfg := range []etcd.Config{at(m.addr), wrong} {
		s := open(t, cfg)
		_, _, err := s.Load(t.Context())
		mustSay(t, err, false, m.addr, "--etcd-user")
		mustSay(t, s.Swap(t.Context(), []byte("no"), "2"), false, "--etcd-user")
	}
	s := open(t, right)
	v := mustLoad(t, s, "one")
	c.forgetTokens()
	if err := s.Swap(t.Context(), []byte("two"), v); err != nil {
		t.Errorf("Swap with an old token: %v", err)
	}
	c.forgetTokens()
	mustLoad(t, s, "two")
	c.deny()
	_, _, err := s.Load(t.Context())
	mustSay(t, err, false, "permission denied", "grant-permission ROLE readwrite "+key)
	mustSay(t, s.Swap(t.Context(), []byte("no"), "3"), false, "permission denied")

	// Authentication that is not switched on yet.
	c = newCluster()
	right.Endpoints = []string{c.start(t, "").addr}
	s = open(t, right)
	mustLoad(t, s, "")
	c.mu.Lock()
	c.password = "secret"
	c.mu.Unlock()
	mustLoad(t, s, "")
}

// Many goroutines share a store while its etcd comes and goes.
func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	c := newCluster()
	m := c.start(t, "")
	cfg := at(m.addr)
	cfg.Username, cfg.Password = "me", "secret"
	s := open(t, cfg)
	var written atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				data, v, err := s.Load(t.Context())
				if err == nil {
					err = s.Swap(t.Context(), append(data, 'x'), v)
				}
				switch {
				case err == nil:
					written.Add(1)
				case !errors.Is(err, rotation.ErrConflict) && !errors.Is(err, rotation.ErrUnavailable):
					t.Error(err)
				}
			}
		})
	}
	eventually(t, 5*time.Second, "write", func() bool { return c.asked() > 10 })
	m.server.Stop()
	c.start(t, m.addr)
	all.Wait()
	data, _, err := s.Load(t.Context())
	if n := int(written.Load()); err != nil || n == 0 || len(data) < n {
		t.Errorf("of %d writes, %d are there: %v", n, len(data), err)
	}
}
