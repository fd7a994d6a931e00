package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/mirror"
	"oidc-provider/jwks"
)

const issuer = "https://oidc.example.test"

// newKey is a key that goes by the name of kid.
func newKey(t testing.TB, kid string) jwks.PublicKey {
	t.Helper()
	key, err := jwks.Generate("ES256", 0)
	if err != nil {
		t.Fatal(err)
	}
	data := marshal(t, key.PublicKey)
	keys, err := jwks.Parse(bytes.Replace(data, []byte(key.KeyID()), []byte(kid), 1))
	if err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

func marshal(t testing.TB, keys ...jwks.PublicKey) []byte {
	t.Helper()
	data, err := jwks.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func kids(keys []jwks.PublicKey) string {
	var all []string
	for _, k := range keys {
		all = append(all, k.KeyID())
	}
	return strings.Join(all, " ")
}

// A fake is a source that does as it is told.
type fake struct {
	mu      sync.Mutex
	fetch   func(ctx context.Context) ([]jwks.PublicKey, []error, error)
	fetched []time.Time
}

func (f *fake) String() string { return "fake" }

func (f *fake) Fetch(ctx context.Context) ([]jwks.PublicKey, []error, error) {
	f.mu.Lock()
	fetch := f.fetch
	f.fetched = append(f.fetched, time.Now())
	f.mu.Unlock()
	return fetch(ctx)
}

// asked is how often it was.
func (f *fake) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.fetched)
}

func (f *fake) does(fetch func(ctx context.Context) ([]jwks.PublicKey, []error, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fetch = fetch
}

func (f *fake) has(keys ...jwks.PublicKey) {
	f.does(func(context.Context) ([]jwks.PublicKey, []error, error) { return keys, nil, nil })
}

func (f *fake) fails(msg string) {
	f.does(func(context.Context) ([]jwks.PublicKey, []error, error) { return nil, nil, errors.New(msg) })
}

// A world is where a mirror publishes and logs.
type world struct {
	mu        sync.Mutex
	published []string
	fail      error
	log       bytes.Buffer
}

func (w *world) publish(keys []jwks.PublicKey) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail == nil {
		w.published = append(w.published, kids(keys))
	}
	return w.fail
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

// logged are the lines since it was last called.
func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.log.Reset()
	return w.log.String()
}

func (w *world) mirror(source mirror.Source, state string) *mirror.Mirror {
	return mirror.New(mirror.Config{
		Issuer: issuer, Source: source, State: state, Publish: w.publish,
		Log: slog.New(slog.NewTextHandler(w, nil)),
	})
}

// refresh wants an error with the text in it, or none if that is empty.
func refresh(t testing.TB, m *mirror.Mirror, want string) {
	t.Helper()
	wantError(t, m.Refresh(t.Context()), want)
	if got := failure(m); (got == "") != (want == "") || !strings.Contains(got, want) {
		t.Errorf("Status tells %q, want %q in it", got, want)
	}
}

// failure returns what Status reports, with its hint.
func failure(m *mirror.Mirror) string { return text(m.Status().Failure) }

// text returns err with its hint, "" for nil.
func text(err error) string { return hint.Text(err, hint.Field) }

func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(text(err), want)) {
		t.Errorf("got error %v, want %q in it", text(err), want)
	}
}

func wantKeys(t *testing.T, m *mirror.Mirror, w *world, want string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var last string
	if len(w.published) > 0 {
		last = w.published[len(w.published)-1]
	}
	if got := kids(m.Keys()); got != want || last != want || m.Status().Keys != len(m.Keys()) {
		t.Errorf("shows %q, published %q, counts %d, want %q", got, last, m.Status().Keys, want)
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := newKey(t, "a"), newKey(t, "b"), newKey(t, "c")
		source, w := new(fake), new(world)
		source.has(a, b)
		m := w.mirror(source, "")
		if m.Keys() != nil || m.Status().Keys != 0 || source.asked() > 0 {
			t.Error("it shows something, or has asked for it, before it runs")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		synctest.Wait()
		wantKeys(t, m, w, "a b")
		began := time.Now()
		if s := m.Status(); !s.Fetched.Equal(began) || !s.Changed.Equal(began) || s.FromState || s.Failure != nil {
			t.Errorf("status %+v", s)
		}
		if got := w.logged(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `added="[a b]" removed=[]`) {
			t.Errorf("logged %s", got)
		}
		time.Sleep(10 * time.Minute)
		if s := m.Status(); !s.Changed.Equal(began) || time.Since(s.Fetched) > time.Minute || w.logged() != "" || len(w.published) != 1 {
			t.Errorf("with nothing new: status %+v", s)
		}
		source.has(b, c)
		time.Sleep(time.Minute)
		wantKeys(t, m, w, "b c")
		if got := w.logged(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `added=[c] removed=[a]`) {
			t.Errorf("logged %s", got)
		}
		cancel()
		<-done
		checkIntervals(t, source.fetched)
	})
}

// checkIntervals wants the default, each time another one, and none far off.
func checkIntervals(t *testing.T, fetched []time.Time) {
	t.Helper()
	different := make(map[time.Duration]bool)
	for i := 1; i < len(fetched); i++ {
		d := fetched[i].Sub(fetched[i-1])
		different[d] = true
		if d < 27*time.Second || d > 33*time.Second {
			t.Errorf("%v from fetch to fetch", d)
		}
	}
	if len(different) < len(fetched)/2 {
		t.Errorf("%d intervals for %d fetches: they do not spread out", len(different), len(fetched))
	}
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, w := new(fake), new(world)
		source.has(newKey(t, "a"))
		m := w.mirror(source, "")
		go m.Run(t.Context())
		synctest.Wait()
		w.logged()
		source.fails("connection refused")
		heard := m.Status().Fetched
		time.Sleep(time.Minute)
		failing := m.Status().FailingSince
		time.Sleep(365 * 24 * time.Hour)
		wantKeys(t, m, w, "a")
		s := m.Status()
		if text(s.Failure) != "fetching keys from fake: connection refused" || s.Failures < 1e6 || s.Fetched.After(heard.Add(33*time.Second)) {
			t.Errorf("status %+v", s)
		}
		if since := failing.Sub(heard); since < 0 || since > time.Minute || !s.FailingSince.Equal(failing) {
			t.Errorf("failing since %v, then since %v", failing, s.FailingSince)
		}
		if got := w.logged(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") {
			t.Errorf("logged %s", got)
		}
		source.fails("no route")
		time.Sleep(time.Hour)
		if got := w.logged(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "no route") || !m.Status().FailingSince.Equal(failing) {
			t.Errorf("logged %s, failing since %v", got, m.Status().FailingSince)
		}
		source.has(newKey(t, "b"))
		time.Sleep(time.Minute)
		wantKeys(t, m, w, "b")
		if s := m.Status(); s.Failure != nil || !s.FailingSince.IsZero() {
			t.Errorf("status %+v", s)
		}
		if got := w.logged(); !strings.Contains(got, "works again") {
			t.Errorf("logged %s", got)
		}
	})
}

// What a source says that is no key set changes nothing.
func TestRefuses(t *testing.T) {
	a := newKey(t, "a")
	many := make([]jwks.PublicKey, 1001)
	for i := range many {
		many[i] = newKey(t, fmt.Sprint("k", i))
	}
	for name, tt := range map[string]struct {
		keys    []jwks.PublicKey
		skipped []error
		want    string
	}{
		"nothing":         {nil, nil, "it has no keys"},
		"nothing of use":  {nil, []error{errors.New("kty is new")}, "kty is new"},
		"far too many":    {many, nil, "it has 1001 keys"},
		"another key":     {[]jwks.PublicKey{newKey(t, "b"), newKey(t, "a")}, nil, `kid "a" named another key before (hint: `},
		"endless kid":     {[]jwks.PublicKey{newKey(t, strings.Repeat("x", 1025))}, nil, "more than 1024 bytes"},
		"endless reasons": {nil, slices.Repeat([]error{errors.New(strings.Repeat("x", 1<<20))}, 1000), "xxx"},
	} {
		t.Run(name, func(t *testing.T) {
			source, w := new(fake), new(world)
			source.has(a)
			m := w.mirror(source, "")
			refresh(t, m, "")
			before := m.Status()
			source.does(func(context.Context) ([]jwks.PublicKey, []error, error) { return tt.keys, tt.skipped, nil })
			refresh(t, m, tt.want)
			wantKeys(t, m, w, "a")
			if s := m.Status(); !s.Changed.Equal(before.Changed) || !s.Fetched.Equal(before.Fetched) || len(s.Skipped) > 21 || len(text(s.Failure)) > 3000 || len(fmt.Sprint(s.Skipped)) > 50000 {
				t.Errorf("status %+v", s)
			}
			source.has(a)
			refresh(t, m, "")
		})
	}
}

// A kid that is gone is remembered as well, as far as there is room.
func TestKeyOfOldKid(t *testing.T) {
	source, w := new(fake), new(world)
	a, b := newKey(t, "a"), newKey(t, "b")
	source.has(a, b)
	m := w.mirror(source, "")
	refresh(t, m, "")
	for i := range 998 { // and then there are 1000
		source.has(b, newKey(t, fmt.Sprint("k", i)))
		refresh(t, m, "")
	}
	source.has(b, newKey(t, "a"))
	refresh(t, m, `kid "a" named another key before (hint: `)
	refresh(t, m, "restart this process")
	wantKeys(t, m, w, "b k997")
	source.has(b, a)
	refresh(t, m, "")
	wantKeys(t, m, w, "b a")
	source.has(b, newKey(t, "k998"))
	refresh(t, m, "")
	source.has(newKey(t, "k1"))
	refresh(t, m, `kid "k1" named another`)
	source.has(newKey(t, "k0")) // the one that has been gone for longest
	refresh(t, m, "")
	source.has(newKey(t, "a"))
	refresh(t, m, `kid "a" named another`)
	source.has(newKey(t, "b")) // the first that was seen, and there until now
	refresh(t, m, `kid "b" named another`)
}

func TestSkipped(t *testing.T) {
	source, w := new(fake), new(world)
	key := newKey(t, "a")
	skips := func(skipped ...error) {
		source.does(func(context.Context) ([]jwks.PublicKey, []error, error) { return []jwks.PublicKey{key}, skipped, nil })
	}
	skips(errors.New("kty is new"))
	m := w.mirror(source, "")
	refresh(t, m, "")
	if got := w.logged(); strings.Count(got, "kty is new") != 1 || !slices.Equal(m.Status().Skipped, []string{"kty is new"}) {
		t.Errorf("logged %s, status %q", got, m.Status().Skipped)
	}
	refresh(t, m, "")
	if got := w.logged(); got != "" {
		t.Errorf("logged %s again", got)
	}
	skips(errors.New("kty is newer"))
	refresh(t, m, "")
	if got := w.logged(); !strings.Contains(got, "kty is newer") {
		t.Errorf("logged %s", got)
	}
	skips(slices.Repeat([]error{errors.New("x")}, 100)...)
	refresh(t, m, "")
	if s := m.Status().Skipped; len(s) != 21 || s[20] != "and 80 more" {
		t.Errorf("status %q", s)
	}
	skips()
	refresh(t, m, "")
	if m.Status().Skipped != nil {
		t.Errorf("status %q", m.Status().Skipped)
	}
}

func TestPublishFails(t *testing.T) {
	source, w := new(fake), new(world)
	source.has(newKey(t, "a"))
	m := w.mirror(source, "")
	refresh(t, m, "")
	w.fail = errors.New("no space")
	source.has(newKey(t, "b"))
	refresh(t, m, "publishing the keys: no space")
	wantKeys(t, m, w, "a")
	w.fail = nil
	source.fails("away") // what was fetched before is still to be published
	refresh(t, m, "away")
	wantKeys(t, m, w, "b")
	if len(w.published) != 2 {
		t.Errorf("published %q", w.published)
	}
}

func TestWithoutPublish(t *testing.T) {
	source := new(fake)
	source.has(newKey(t, "a"))
	m := mirror.New(mirror.Config{Issuer: issuer, Source: source, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := m.Refresh(t.Context()); err != nil || kids(m.Keys()) != "a" {
		t.Errorf("got %q, %v", kids(m.Keys()), err)
	}
}

func TestSourceThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, w := new(fake), new(world)
		source.has(newKey(t, "a"))
		m := w.mirror(source, "")
		refresh(t, m, "")

		source.does(func(ctx context.Context) ([]jwks.PublicKey, []error, error) {
			<-ctx.Done()
			return nil, nil, ctx.Err()
		})
		began := time.Now()
		refresh(t, m, "context deadline exceeded")
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
		// One that does not even heed its context.
		free, late := make(chan struct{}), newKey(t, "late")
		source.does(func(context.Context) ([]jwks.PublicKey, []error, error) {
			<-free
			return []jwks.PublicKey{late}, nil, nil
		})
		began = time.Now()
		refresh(t, m, "no answer in time")
		if took := time.Since(began); took != 11*time.Second {
			t.Errorf("took %v", took)
		}
		asked := source.asked()
		for range 10 {
			refresh(t, m, "still hangs (hint: ")
		}
		if source.asked() != asked {
			t.Error("it is asked again meanwhile")
		}
		wantKeys(t, m, w, "a")
		close(free)
		synctest.Wait()
		source.has(newKey(t, "b"))
		refresh(t, m, "")
		wantKeys(t, m, w, "b")
	})
}

// The end of the process is no failure.
func TestEndWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, w := new(fake), new(world)
		source.has(newKey(t, "a"))
		m := w.mirror(source, "")
		refresh(t, m, "")
		w.logged()
		source.does(func(ctx context.Context) ([]jwks.PublicKey, []error, error) {
			<-ctx.Done()
			return nil, nil, ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		synctest.Wait()
		cancel()
		<-done
		if s := m.Status(); s.Failure != nil || s.Failures != 0 || w.logged() != "" {
			t.Errorf("status %+v", s)
		}
	})
}

// For the race detector: everything at once.
func TestConcurrency(t *testing.T) {
	source, w := new(fake), new(world)
	keys := []jwks.PublicKey{newKey(t, "a"), newKey(t, "b")}
	source.has(keys[0])
	m := w.mirror(source, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	for i := range 4 {
		wg.Go(func() {
			for j := range 50 {
				source.has(keys[(i+j)%2])
				_ = m.Refresh(ctx)
				_, _ = m.Status(), kids(m.Keys())
			}
			cancel()
		})
	}
	wg.Wait()
}
