package mirror_test

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/mirror"
	"oidc-provider/jwks"
)

// follower is a mirror that takes the place of something that is shown.
func (w *world) follower(source mirror.Source, state string, after *mirror.Mirror) *mirror.Mirror {
	return mirror.New(mirror.Config{
		Issuer: issuer, Source: source, State: state, Predecessor: &mirror.Predecessor{Mirror: after}, Publish: w.publish,
		Log: slog.New(slog.NewTextHandler(w, nil)),
	})
}

// One that is to take the place of another shows nothing that it has not heard,
// and keeps to the kids that were seen.
func TestFollower(t *testing.T) {
	a, b, other := newKey(t, "a"), newKey(t, "b"), newKey(t, "a")
	for _, tt := range []struct {
		name         string
		state, after bool
	}{{"state", true, false}, {"after", false, true}, {"both", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			w, f, path := new(world), new(fake), statePath(t)
			f.has(a)
			before := w.mirror(f, path)
			if err := before.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !tt.state {
				path = ""
			}
			var after *mirror.Mirror
			if tt.after {
				after = before
			}
			w.published = nil
			next := w.follower(f, path, after)
			if w.published != nil || next.Keys() != nil || next.Status().Keys != 0 {
				t.Errorf("before anything was heard %q was published, status %+v", w.published, next.Status())
			}
			f.fails("away")
			if err := next.Refresh(t.Context()); err == nil || w.published != nil {
				t.Errorf("after a failure (%v) %q was published", err, w.published)
			}
			f.has(other)
			if err := next.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), `kid "a" named another key`) || w.published != nil {
				t.Errorf("another key under an old kid: %v, published %q", err, w.published)
			}
			f.has(a, b)
			if err := next.Refresh(t.Context()); err != nil || kids(next.Keys()) != "a b" {
				t.Errorf("the first good answer: %v, keys %s", err, kids(next.Keys()))
			}
		})
	}
}

// Many kids of both are remembered, those of the later one best.
func TestFollowerRemembersTheLatest(t *testing.T) {
	w, f := new(world), new(fake)
	a, other := newKey(t, "a"), newKey(t, "a")
	f.has(a)
	before := w.mirror(f, "")
	if err := before.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := statePath(t)
	keep(t, path, other) // of an earlier time, when a was another
	next := w.follower(f, path, before)
	if err := next.Refresh(t.Context()); err != nil {
		t.Errorf("what the mirror before has seen: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	w, f, path := new(world), new(fake), statePath(t)
	looksOn := func() *mirror.Mirror {
		return mirror.New(mirror.Config{Issuer: issuer, Source: f, State: path, ReadOnly: true, Publish: w.publish, Log: slog.New(slog.DiscardHandler)})
	}
	f.has(newKey(t, "b"))
	if err := looksOn().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it was written: %v", err)
	}
	keep(t, path, newKey(t, "a"))
	kept := read(t, path)
	f.fails("away")
	m := looksOn()
	if err := m.Refresh(t.Context()); err == nil || kids(m.Keys()) != "a" {
		t.Errorf("with the source away: %v, keys %s", err, kids(m.Keys()))
	}
	f.has(newKey(t, "b"))
	if err := m.Refresh(t.Context()); err != nil || read(t, path) != kept {
		t.Errorf("it was written, or %v", err)
	}
	// One that cannot be read is no failure of the source.
	write(t, path, "nonsense")
	if err := looksOn().Refresh(t.Context()); err != nil {
		t.Error(err)
	}
}

// Files that hang keep no mirror from publishing, nor from keeping its keys; and
// a disk that hangs keeps none from publishing.
func TestHungDisk(t *testing.T) {
	release := mirror.FillDisk()
	w, f, path := new(world), new(fake), statePath(t)
	f.has(newKey(t, "a"))
	m := w.mirror(f, path)
	if err := m.Refresh(t.Context()); err != nil {
		t.Errorf("while others read: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	release()
	release = mirror.FillStates()
	defer release()
	f.has(newKey(t, "b"))
	shown := make(chan string, 1)
	m = mirror.New(mirror.Config{Issuer: issuer, Source: f, State: statePath(t), Log: slog.New(slog.DiscardHandler), Publish: func(keys []jwks.PublicKey) error {
		shown <- kids(keys)
		return nil
	}})
	done := make(chan error)
	go func() { done <- m.Refresh(t.Context()) }()
	if got := <-shown; got != "b" {
		t.Errorf("published %q", got)
	}
	if got := kids(m.Keys()); got != "b" && got != "" {
		t.Errorf("keys %q", got)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "writing the state") {
		t.Errorf("a state that cannot be written is no failure: %v", err)
	}
	if kids(m.Keys()) != "b" {
		t.Errorf("keys %s", kids(m.Keys()))
	}
}

// Many mirrors of files look less often; one of something else does not.
func TestManyLookLessOften(t *testing.T) {
	files, err := mirror.NewFiles([]string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, tt := range []struct {
		source mirror.Source
		n      int64
		about  time.Duration
	}{{files, 1, time.Second}, {files, 2000, time.Second}, {files, 10000, 5 * time.Second}, {new(fake), 10000, time.Second}} {
		m := mirror.New(mirror.Config{Issuer: issuer, Source: tt.source, Interval: time.Second, Log: slog.New(slog.DiscardHandler)})
		for range 100 {
			if got := m.Wait(now, tt.n); got < tt.about*8/10 || got > tt.about*11/10 {
				t.Fatalf("%v with %d mirrors: %v, want about %v", tt.source, tt.n, got, tt.about)
			}
		}
	}
}

// What the one before learns while this one has not been heard counts too.
func TestFollowerLearnsUntilItIsHeard(t *testing.T) {
	w, f, g := new(world), new(fake), new(fake)
	f.has(newKey(t, "a"))
	before := w.mirror(f, "")
	if err := before.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := w.follower(g, "", before)
	g.fails("away")
	if err := next.Refresh(t.Context()); err == nil {
		t.Fatal("no failure")
	}
	f.has(newKey(t, "b"))
	if err := before.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.has(newKey(t, "b"))
	if err := next.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), `kid "b" named another key`) {
		t.Errorf("another key under a kid that was shown meanwhile: %v", err)
	}
}

// A state that cannot be read must not make the next mirror forget what the one
// before has published, not even if the source fails at first.
func TestPredecessorCountsWithAnUnreadableState(t *testing.T) {
	w, f, path := new(world), new(fake), statePath(t)
	f.has(newKey(t, "a"))
	before := w.mirror(f, path)
	if err := before.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, path, "nonsense")
	next := w.follower(f, path, before)
	f.fails("away")
	if err := next.Refresh(t.Context()); err == nil {
		t.Fatal("no failure")
	}
	f.has(newKey(t, "a"))
	if err := next.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), `kid "a" named another key`) {
		t.Errorf("another key under a kid that is published: %v", err)
	}
}
