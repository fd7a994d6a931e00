package rotation_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// A box seals by naming whom it is for, and opens what is for its owner.
type box struct {
	owner string // or several names

	mu  sync.Mutex
	err error // of Unseal
}

var errNotMine = errors.New("none of the identities opens it")

func (b *box) Seal(_ context.Context, recipients []string, plain []byte) ([]byte, error) {
	sealed := fmt.Appendf(nil, "%s\n", strings.Join(recipients, " "))
	for _, c := range plain {
		sealed = append(sealed, ^c)
	}
	return sealed, nil
}

func (b *box) Unseal(_ context.Context, sealed []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	recipients, body, _ := bytes.Cut(sealed, []byte("\n"))
	switch {
	case b.err != nil:
		return nil, b.err
	case !slices.ContainsFunc(strings.Fields(string(recipients)), func(r string) bool { return slices.Contains(strings.Fields(b.owner), r) }):
		return nil, errNotMine
	}
	plain := slices.Clone(body)
	for i := range plain {
		plain[i] = ^plain[i]
	}
	return plain, nil
}

// WriterKeys derives a key from the name of each owner. A box has no KMS plugin.
func (b *box) WriterKeys(context.Context, []byte) (keys []rotation.WriterKey, err error) {
	for _, owner := range strings.Fields(b.owner) {
		seed := sha256.Sum256([]byte(owner))
		keys = append(keys, rotation.NewWriterKey(owner, seed[:]))
	}
	return keys, nil
}

func (b *box) NewWriterSeed(context.Context) ([]byte, error) { return nil, nil }

func (b *box) HasIdentity() bool { return b.owner != "" }

func (b *box) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *box) failing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil
}

func sealedRing(t testing.TB) []byte {
	t.Helper()
	r, err := rotation.New(simIssuer, rotation.Policy{}, epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	r.Recipients = []string{"alice", "bob"}
	return encode(t, r, &box{})
}

func TestSealedRing(t *testing.T) {
	r, err := rotation.Decode(sealedRing(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Keys {
		if k := &r.Keys[i]; k.SigningKey() != nil || len(k.Private) > 0 || len(k.Sealed) == 0 {
			t.Errorf("key %d is not closed", i)
		}
	}
	if n := len(rotation.NewView(r).KeySet()); n != 2 {
		t.Errorf("%d keys are published from a closed ring, want 2", n)
	}
	if _, err := rotation.NewView(r).Signer(epoch); err == nil || !strings.Contains(err.Error(), "is sealed") {
		t.Errorf("a closed ring signs: %v", err)
	}
	for _, s := range []rotation.Sealer{nil, &box{owner: "eve"}} {
		closed, err := r.Unseal(t.Context(), s)
		if err == nil || !strings.Contains(err.Error(), "sealed for alice, bob") {
			t.Errorf("opened by %v: %v", s, err)
		}
		if _, err := rotation.NewView(closed).Signer(epoch); err == nil || !strings.Contains(err.Error(), "sealed for alice, bob") {
			t.Errorf("signs without a key: %v", err)
		}
	}
	open, err := r.Unseal(t.Context(), &box{owner: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := rotation.NewView(open).Signer(epoch); err != nil || s.Key.KeyID() != r.Active(epoch).KeyID {
		t.Errorf("opened and does not sign: %v", err)
	}
	if again, err := open.Unseal(t.Context(), nil); err != nil || again != open {
		t.Errorf("there was something left to open: %v", err)
	}
}

// What is sealed for one key must not pass for another.
func TestSealedKeysSwapped(t *testing.T) {
	r, err := rotation.Decode(sealedRing(t))
	if err != nil {
		t.Fatal(err)
	}
	r.Keys[0].Sealed, r.Keys[1].Sealed = r.Keys[1].Sealed, r.Keys[0].Sealed
	if _, err := r.Unseal(t.Context(), &box{owner: "bob"}); err == nil || !strings.Contains(err.Error(), "another public key") {
		t.Errorf("got %v", err)
	}
}

func TestReseal(t *testing.T) {
	r, err := rotation.Decode(sealedRing(t))
	if err != nil {
		t.Fatal(err)
	}
	now := epoch.Add(time.Hour)
	if _, err := rotation.Reseal(r, []string{"carol"}, now); err == nil {
		t.Error("a closed ring was sealed anew")
	}
	open, err := r.Unseal(t.Context(), &box{owner: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	for _, recipients := range [][]string{{"carol", "alice"}, {"carol"}, nil} {
		next, err := rotation.Reseal(open, recipients, now)
		if err != nil {
			t.Fatal(err)
		}
		back, err := rotation.Decode(encode(t, next, &box{}))
		if err != nil {
			t.Fatal(err)
		}
		if back, err = back.Unseal(t.Context(), &box{owner: "carol"}); err != nil {
			t.Errorf("%v: %v", recipients, err)
		}
		if back.Generation != r.Generation+1 || !slices.Equal(back.Recipients, recipients) {
			t.Errorf("%v: generation %d, recipients %v", recipients, back.Generation, back.Recipients)
		}
		if plain := len(back.Keys[0].Private) > 0; plain != (len(recipients) == 0) {
			t.Errorf("%v: plain is %v", recipients, plain)
		}
	}
}

// Operators rotate and revoke without being able to open anything.
func TestChangesOfAClosedRing(t *testing.T) {
	s := &store.Memory{}
	if err := s.Swap(t.Context(), sealedRing(t), ""); err != nil {
		t.Fatal(err)
	}
	_, err := rotation.Update(t.Context(), s, rotation.Access{Sealer: &box{}}, func(r *rotation.Ring) (*rotation.Ring, error) {
		next, _, err := rotation.Rotate(r, epoch, true, generateEC)
		return next, err
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := rotation.Read(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = r.Unseal(t.Context(), &box{owner: "alice"}); err != nil || len(r.Keys) != 3 {
		t.Errorf("%d keys, %v", len(r.Keys), err)
	}
}

// sealedRunning is a replica on a sealed ring, in the bubble of the test.
func sealedRunning(t *testing.T, sealer rotation.Sealer, publishOnly bool) (*store.Memory, *shownKeys, *rotation.Rotator) {
	t.Helper()
	s, pub := &store.Memory{}, &shownKeys{}
	r, err := rotation.New(simIssuer, rotation.Policy{}, time.Now(), generateEC)
	if err != nil {
		t.Fatal(err)
	}
	r.Recipients = []string{"alice"}
	if err := rotation.Create(t.Context(), s, &box{}, r); err != nil {
		t.Fatal(err)
	}
	rotator, err := rotation.Open(t.Context(), rotation.Config{
		Store: s, Issuer: simIssuer, Access: rotation.Access{Sealer: sealer, AllowUnsigned: true}, PublishOnly: publishOnly,
		Publishers: []rotation.Publisher{pub}, Generate: generateEC, Poll: 10 * time.Minute, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { rotator.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return s, pub, rotator
}

func TestRotationOfASealedRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := &box{owner: "alice"}
		s, _, rotator := sealedRunning(t, mine, false)
		time.Sleep(725 * time.Hour)
		after, err := rotation.Read(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(after.Keys); n != 3 || rotator.Failure() != nil {
			t.Fatalf("%d keys after a rotation; %v", n, rotator.Failure())
		}
		// No replica can open new keys now: open keys stay in use.
		mine.fail(errors.New("the plugin is away"))
		time.Sleep(725 * time.Hour)
		if _, err := rotator.Signer(time.Now()); err != nil {
			t.Errorf("an open key stopped signing: %v", err)
		}
		later, err := rotation.Read(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for i := range later.Keys {
			if k := &later.Keys[i]; k.Created.After(after.Updated) {
				t.Errorf("key %s was written, and cannot be opened", k.KeyID)
			}
		}
		if !strings.Contains(failure(rotator), "the plugin is away") {
			t.Errorf("failure: %v", rotator.Failure())
		}
		mine.fail(nil)
		time.Sleep(time.Hour)
		if rotator.Failure() != nil {
			t.Errorf("afterwards: %v", rotator.Failure())
		}
	})
}

// A replica that cannot open the next key does not plan its activation, and one
// whose active key is closed says for whom it is sealed.
func TestClosedReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := &box{owner: "alice", err: errNotMine}
		s, pub, rotator := sealedRunning(t, mine, false)
		time.Sleep(100 * time.Hour)
		if _, err := rotator.Signer(time.Now()); err == nil || !strings.Contains(err.Error(), "sealed for alice: none of") {
			t.Errorf("signs: %v", err)
		}
		if rotator.Ready(time.Now()) == nil || len(pub.keys()) != 2 {
			t.Errorf("ready, or publishing %d keys", len(pub.keys()))
		}
		r, err := rotation.Read(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if standby := r.Standby(time.Now()); !standby.SignFrom.IsZero() {
			t.Error("an activation to a key was planned that no replica can open")
		}
		mine.fail(nil)
		time.Sleep(time.Hour)
		if err := rotator.Ready(time.Now()); err != nil {
			t.Errorf("opened: %v", err)
		}
	})
}

// A replica that was left out when the ring was sealed anew signs on with what
// it has, and says that it could not start again.
func TestResealedForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := &box{owner: "alice"}
		s, _, rotator := sealedRunning(t, mine, false)
		reseal := func(recipients ...string) {
			_, err := rotation.Update(t.Context(), s, rotation.Access{Sealer: mine, AllowUnsigned: true}, func(r *rotation.Ring) (*rotation.Ring, error) {
				open, err := r.Unseal(t.Context(), &box{owner: r.Recipients[len(r.Recipients)-1]})
				if err != nil {
					return r, err
				}
				return rotation.Reseal(open, recipients, time.Now())
			})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		reseal("bob")
		if err := rotator.Ready(time.Now()); err != nil || !strings.Contains(failure(rotator), "sealed for bob") {
			t.Errorf("ready: %v; failure: %v", err, rotator.Failure())
		}
		reseal("alice", "bob")
		if rotator.Failure() != nil {
			t.Errorf("taken in again: %v", rotator.Failure())
		}
	})
}

func TestPublishOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pub, rotator := sealedRunning(t, nil, true)
		_, before, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(1000 * time.Hour)
		if err := rotator.Ready(time.Now()); err != nil || rotator.Failure() != nil || len(pub.keys()) != 2 {
			t.Errorf("not ready: %v; %v", err, rotator.Failure())
		}
		if _, err := rotator.Signer(time.Now()); err == nil {
			t.Error("it signs")
		}
		if _, after, _ := s.Load(t.Context()); after != before {
			t.Error("it has written")
		}
		if _, err := rotation.Update(t.Context(), s, rotation.Access{Sealer: &box{}}, func(r *rotation.Ring) (*rotation.Ring, error) {
			next, _, err := rotation.Rotate(r, time.Now(), true, generateEC)
			return next, err
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := len(pub.keys()); n != 3 {
			t.Errorf("%d keys are published after a rotation elsewhere, want 3", n)
		}
	})
}
