package etcd_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"oidc-provider/internal/hint"
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

// mustSay checks that err and its hint contain all words, and whether err is
// ErrUnavailable.
func mustSay(t *testing.T, err error, unavailable bool, words ...string) {
	t.Helper()
	if err == nil || errors.Is(err, rotation.ErrConflict) || errors.Is(err, rotation.ErrUnavailable) != unavailable {
		t.Errorf("got %v, want ErrUnavailable: %v", err, unavailable)
		return
	}
	text := hint.Text(err, hint.Field)
	for _, w := range append(words, "(hint: ") {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not contain %q", text, w)
		}
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "desc =") {
		t.Errorf("%q contains a secret, or the wrapping of gRPC", text)
	}
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(began) > within {
			t.Fatalf("no %s within %v", what, within)
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
	c.limit = 3 << 19 // etcd's default
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

	// More than etcd accepts in a request, and more than gRPC accepts.
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
		t.Errorf("a cancelled Swap was written")
	}
	s.Close()
	if _, _, err := s.Load(ctx); err == nil || errors.Is(err, rotation.ErrUnavailable) {
		t.Errorf("Load after Close: %v", err)
	}
}

func TestAuthentication(t *testing.T) {
	c := newCluster()
	c.password = "secret"
	c.put(key, "one")
	m := c.start(t, "")
	wrong, right := at(m.addr), at(m.addr)
	wrong.Username, wrong.Password = "me", "secret of another user"
	right.Username, right.Password = "me", "secret"
	for _, cfg := range []etcd.Config{at(m.addr), wrong} {
		s := open(t, cfg)
		_, _, err := s.Load(t.Context())
		mustSay(t, err, false, m.addr, "etcd.user")
		mustSay(t, s.Swap(t.Context(), []byte("no"), "2"), false, "etcd.user")
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

	// Authentication is enabled while the store is in use.
	c = newCluster()
	right.Endpoints = []string{c.start(t, "").addr}
	s = open(t, right)
	mustLoad(t, s, "")
	c.mu.Lock()
	c.password = "secret"
	c.mu.Unlock()
	mustLoad(t, s, "")
}

// Many goroutines share a store while its etcd restarts.
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
		t.Errorf("%d writes succeeded, and %d are stored: %v", n, len(data), err)
	}
}
