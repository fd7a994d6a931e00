package rotation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// flakyStore is a memory store that fails on demand.
type flakyStore struct {
	store.Memory
	mu            sync.Mutex
	reads, writes error
	swaps         int
}

func (s *flakyStore) fail(reads, writes error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads, s.writes = reads, writes
}

func (s *flakyStore) Load(ctx context.Context) ([]byte, rotation.Version, error) {
	s.mu.Lock()
	err := s.reads
	s.mu.Unlock()
	if err != nil {
		return nil, "", err
	}
	return s.Memory.Load(ctx)
}

func (s *flakyStore) Swap(ctx context.Context, data []byte, old rotation.Version) error {
	s.mu.Lock()
	err := s.writes
	s.swaps++
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.Memory.Swap(ctx, data, old)
}

// shownKeys is a publisher that fails on demand.
type shownKeys struct {
	mu    sync.Mutex
	err   error
	shown []string
}

func (p *shownKeys) Publish(_ context.Context, v *rotation.View) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.shown = nil
	for _, k := range v.KeySet() {
		p.shown = append(p.shown, k.KeyID())
	}
	return nil
}

func (p *shownKeys) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *shownKeys) keys() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown
}

type bench struct {
	store *flakyStore
	pub   *shownKeys
	log   *bytes.Buffer
	r     *rotation.Rotator
}

// running is a rotator whose loop runs in the bubble of the test. Most tests
// take months, which a poll every half second makes long.
func running(t *testing.T, poll time.Duration) *bench {
	t.Helper()
	b := &bench{store: &flakyStore{}, pub: &shownKeys{}, log: &bytes.Buffer{}}
	ring, err := rotation.New(simIssuer, rotation.Policy{}, time.Now(), generateEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := rotation.Create(t.Context(), b.store, nil, ring); err != nil {
		t.Fatal(err)
	}
	b.r, err = rotation.Open(t.Context(), rotation.Config{
		Store: b.store, Issuer: simIssuer, Publishers: []rotation.Publisher{b.pub}, Generate: generateEC, Poll: poll,
		Log: slog.New(slog.NewTextHandler(b.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { b.r.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return b
}

func (b *bench) signs(t *testing.T) string {
	t.Helper()
	s, err := b.r.Signer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s.Key.KeyID()
}

func TestRunRotatesOnSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 10*time.Minute)
		first, next := b.pub.keys()[0], b.pub.keys()[1]
		time.Sleep(720*time.Hour - time.Second)
		if got := b.signs(t); got != first {
			t.Errorf("before the activation %s signs, want %s", got, first)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := b.signs(t); got != next {
			t.Errorf("after the activation %s signs, want %s", got, next)
		}
		if n := len(b.pub.keys()); n != 3 {
			t.Errorf("%d keys are shown, want the retired, the active and the next", n)
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if n := len(b.pub.keys()); n != 2 {
			t.Errorf("%d keys are shown a day later, want 2", n)
		}
		if b.r.Failure() != nil || b.r.Failed() != 0 {
			t.Errorf("failed %d times: %v", b.r.Failed(), b.r.Failure())
		}
	})
}

func TestRunNoticesOthersWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 0)
		time.Sleep(time.Minute)
		next := b.pub.keys()[1]
		if _, err := rotation.Update(t.Context(), b.store, rotation.Access{}, func(r *rotation.Ring) (*rotation.Ring, error) {
			r, _, err := rotation.Rotate(r, time.Now(), true, generateEC)
			return r, err
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := b.signs(t); got != next {
			t.Errorf("%s signs a second later, want %s", got, next)
		}
	})
}

func TestPublisherFailureStopsPlanning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 10*time.Minute)
		time.Sleep(719 * time.Hour)
		first := b.signs(t)
		b.pub.fail(errors.New("the bucket is full"))
		time.Sleep(2 * time.Hour) // over the activation, whose successor cannot be shown
		second := b.signs(t)
		if second == first {
			t.Fatal("an activation that was planned did not happen")
		}
		time.Sleep(800 * time.Hour)
		if got := b.signs(t); got != second {
			t.Errorf("%s signs, and no relying party can have it", got)
		}
		if !strings.Contains(failure(b.r), "the bucket is full") || !strings.Contains(b.log.String(), "the bucket is full") {
			t.Errorf("the failure is not loud: %v\n%s", b.r.Failure(), b.log)
		}
		if n := strings.Count(b.log.String(), "the bucket is full"); n > 3 {
			t.Errorf("logged %d times", n)
		}
		b.pub.fail(nil)
		time.Sleep(26 * time.Hour)
		if got := b.signs(t); got == second {
			t.Error("no rotation a day after the publisher recovered")
		}
		if b.r.Failure() != nil || !strings.Contains(b.log.String(), "rotation works again") {
			t.Errorf("the end of the failure is not logged: %v", b.r.Failure())
		}
	})
}

func TestFullDiskKeepsTheOldKeysSigning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 10*time.Minute)
		time.Sleep(721 * time.Hour)
		second := b.signs(t)
		b.store.fail(nil, errors.New("no space left on device"))
		time.Sleep(800 * time.Hour)
		// The activation that was planned before took place; no other can.
		third := b.signs(t)
		if third == second {
			t.Error("the activation that was planned in the ring did not happen")
		}
		if !strings.Contains(failure(b.r), "no space left on device") {
			t.Errorf("failure: %v", b.r.Failure())
		}
		time.Sleep(800 * time.Hour)
		if got := b.signs(t); got != third {
			t.Errorf("%s signs, which was never written", got)
		}
		b.store.fail(nil, nil)
		time.Sleep(26 * time.Hour)
		if got := b.signs(t); got == third {
			t.Error("no rotation a day after there was space again")
		}
	})
}

func TestStaleReplicaRefusesToSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 10*time.Minute)
		shown := b.pub.keys()
		time.Sleep(time.Hour)
		b.store.fail(errors.New("connection refused"), nil)
		time.Sleep(24*time.Hour - 11*time.Minute)
		b.signs(t)
		time.Sleep(12 * time.Minute)
		var stale *rotation.StaleError
		if _, err := b.r.Signer(time.Now()); !errors.As(err, &stale) {
			t.Errorf("a day without the store: got %v, want a StaleError", err)
		}
		if got := b.pub.keys(); fmt.Sprint(got) != fmt.Sprint(shown) {
			t.Errorf("shows %v, want what it knew: %v", got, shown)
		}
		b.store.fail(nil, nil)
		time.Sleep(10 * time.Minute)
		b.signs(t)
	})
}

func TestRingThatVanishesOrGoesBackIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 10*time.Minute)
		old, _, err := b.store.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(721 * time.Hour)
		kid := b.signs(t)
		_, v, err := b.store.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		backup, err := rotation.Decode(old)
		if err != nil {
			t.Fatal(err)
		}
		if backup.Generation != 2 {
			t.Fatalf("the backup is of generation %d", backup.Generation)
		}
		if err := b.store.Swap(t.Context(), old, v); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := b.signs(t); got != kid || !strings.Contains(failure(b.r), "went back in time") {
			t.Errorf("an old backup was followed: %s signs, want %s; %v", got, kid, b.r.Failure())
		}
		after, _, err := b.store.Load(t.Context())
		if err != nil || !bytes.Equal(after, old) {
			t.Errorf("the backup was overwritten: %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	open := func(s rotation.Store, issuer string) error {
		_, err := rotation.Open(t.Context(), rotation.Config{Store: s, Issuer: issuer, Log: slog.New(slog.DiscardHandler)})
		return err
	}
	if err := open(&store.Memory{}, simIssuer); !errors.Is(err, rotation.ErrEmpty) {
		t.Errorf("empty store: %v", err)
	}
	foreign := &store.Memory{}
	if err := rotation.Create(t.Context(), foreign, nil, newRing(t, rotation.Policy{})); err != nil {
		t.Fatal(err)
	}
	if err := open(foreign, "https://other.example.test"); err == nil || !strings.Contains(hint.Of(err), "{issuer} to "+simIssuer) {
		t.Errorf("foreign ring: %v", err)
	}
	broken := &store.Memory{}
	if err := broken.Swap(t.Context(), []byte("{"), ""); err != nil {
		t.Fatal(err)
	}
	if err := open(broken, simIssuer); err == nil || !strings.Contains(err.Error(), "left unchanged") {
		t.Errorf("broken ring: %v", err)
	}
	if data, _, _ := broken.Load(t.Context()); string(data) != "{" {
		t.Errorf("the broken ring became %q", data)
	}
}

// A loop that has nothing to do writes nothing.
func TestIdleLoopDoesNotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 10*time.Minute)
		time.Sleep(time.Hour)
		before := b.store.swaps
		time.Sleep(500 * time.Hour)
		if got := b.store.swaps; got != before {
			t.Errorf("%d writes while nothing was due", got-before)
		}
	})
}

func TestReadyTellsTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 10*time.Minute)
		ready := func() string {
			if err := b.r.Ready(time.Now()); err != nil {
				return err.Error()
			}
			return "ready"
		}
		time.Sleep(time.Hour)
		if got := ready(); got != "ready" {
			t.Errorf("in peace: %s", got)
		}
		b.store.fail(errors.New("connection refused"), nil)
		time.Sleep(12*time.Hour - 20*time.Minute)
		if got := ready(); got != "ready" {
			t.Errorf("just under half of publish-ahead without the store: %s", got)
		}
		time.Sleep(30 * time.Minute)
		if got := ready(); !strings.Contains(got, "last read 12h") {
			t.Errorf("just over: %s", got)
		}
		b.store.fail(nil, nil)
		time.Sleep(20 * time.Minute)
		b.pub.fail(errors.New("the bucket is full"))
		time.Sleep(720 * time.Hour) // over an activation, after which there is a new key to show
		if got := ready(); !strings.Contains(got, "not the newest") {
			t.Errorf("while the key set cannot be shown: %s", got)
		}
		b.pub.fail(nil)
		time.Sleep(20 * time.Minute)
		if got := ready(); got != "ready" {
			t.Errorf("afterwards: %s", got)
		}
	})
}

// A publisher that failed is tried again also while the store is down.
func TestPublishingGoesOnWithoutTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 10*time.Minute)
		b.pub.fail(errors.New("the bucket is full"))
		time.Sleep(721 * time.Hour)
		before := len(b.pub.keys())
		b.store.fail(errors.New("connection refused"), nil)
		b.pub.fail(nil)
		time.Sleep(time.Hour)
		if after := len(b.pub.keys()); after != before+1 {
			t.Errorf("%d keys are shown, want the new one beside the %d", after, before)
		}
	})
}

// failure is the text of what failed last, "" if nothing did.
func failure(r *rotation.Rotator) string {
	if err := r.Failure(); err != nil {
		return err.Error()
	}
	return ""
}

// text is the message of err, and its hints.
func text(err error) string { return hint.Text(err, hint.Field) }
