package rotation_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// history is a ring at its beginning, after a forced rotation, and after that
// branch was left for another.
func history(t *testing.T) (old, newer, branch *rotation.Ring) {
	t.Helper()
	rotate := func(r *rotation.Ring, times int) *rotation.Ring {
		for range times {
			var err error
			if r, _, err = rotation.Rotate(r, r.Updated.Add(time.Minute), true, generateEC); err != nil {
				t.Fatal(err)
			}
			r = written(t, r)
		}
		return r
	}
	old = written(t, newRing(t, rotation.Policy{}))
	return old, rotate(old, 1), rotate(old, 3)
}

func TestCheckAgainst(t *testing.T) {
	old, newer, branch := history(t)
	keysAlone := rotation.Seen{By: "the world", KeyIDs: newer.Seen().KeyIDs}
	changed := func(r *rotation.Ring, schedule string, wait time.Duration) *rotation.Ring {
		next, err := rotation.SetPolicy(r, rotation.Policy{Schedule: schedule}, r.Updated.Add(wait))
		if err != nil {
			t.Fatal(err)
		}
		return written(t, next)
	}
	revoked, _, err := rotation.Revoke(old, old.Keys[1].KeyID, epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	goneAlone := rotation.Seen{By: "a peer", Gone: revoked.Seen().Gone}
	for name, tt := range map[string]struct {
		ring *rotation.Ring
		seen rotation.Seen
		want string // "" if it follows
	}{
		"itself":                {newer, newer.Seen(), ""},
		"its past":              {newer, old.Seen(), ""},
		"its future":            {old, newer.Seen(), "went back in time"},
		"keys of its future":    {old, keysAlone, "has never had key " + newer.Keys[2].KeyID},
		"its own keys":          {newer, keysAlone, ""},
		"a branch, overtaken":   {branch, newer.Seen(), "has never had key " + newer.Keys[2].KeyID},
		"keys of the other one": {branch, keysAlone, "has never had key " + newer.Keys[2].KeyID},
		"another change":        {changed(newer, "@weekly", time.Minute), changed(newer, "@daily", time.Hour).Seen(), "went back in time"},
		"another, later":        {changed(newer, "@weekly", time.Hour), changed(newer, "@daily", time.Minute).Seen(), "has another history"},
		"another, overtaken":    {changed(changed(newer, "@weekly", time.Hour), "@daily", time.Hour), changed(newer, "@daily", time.Minute).Seen(), "has another history"},
		"a change further":      {changed(changed(newer, "@weekly", time.Hour), "@daily", time.Hour), changed(newer, "@weekly", time.Hour).Seen(), ""},
		"what was revoked":      {old, goneAlone, "publishes key " + old.Keys[1].KeyID},
		"still revoked":         {revoked, goneAlone, ""},
		"another issuer":        {newer, rotation.Seen{Issuer: "https://other.example.test"}, "issuer"},
	} {
		err := tt.ring.CheckAgainst(tt.seen)
		if got := err != nil; got != (tt.want != "") || got && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// Kids of removed keys are known for ever.
func TestCheckAgainstRemoved(t *testing.T) {
	r := written(t, newRing(t, rotation.Policy{}))
	seen := r.Seen()
	r, _, err := rotation.Rotate(r, epoch, true, generateEC)
	if err == nil {
		r, _, err = rotation.Advance(r, epoch.Add(1000*time.Hour), "", generateEC)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Removed) != 1 {
		t.Fatalf("%d keys were removed, want 1", len(r.Removed))
	}
	if err := r.CheckAgainst(seen); err != nil {
		t.Error(err)
	}
}

func TestMemoryAcrossRestarts(t *testing.T) {
	ctx := context.Background()
	old, newer, branch := history(t)
	memory := &store.Memory{}
	start := func(r *rotation.Ring) error {
		s := &store.Memory{}
		if err := s.Swap(ctx, encode(t, r, nil), ""); err != nil {
			t.Fatal(err)
		}
		_, err := rotation.OpenAt(ctx, rotation.Config{
			Store: s, Issuer: simIssuer, RollbackState: memory, PublishOnly: true, Log: slog.New(slog.DiscardHandler), // writes no ring
		}, r.Updated)
		return err
	}
	for _, r := range []*rotation.Ring{old, newer, newer} {
		if err := start(r); err != nil {
			t.Fatal(err)
		}
	}
	for name, r := range map[string]*rotation.Ring{"old": old, "branch": branch} {
		var past *rotation.PastError
		if err := start(r); !errors.As(err, &past) || hint.Of(err) == "" {
			t.Errorf("%s: got %v, want a PastError with a hint", name, err)
		}
	}
	if err := start(newer); err != nil {
		t.Errorf("the right ring after a wrong one: %v", err)
	}
	// A ring is not a memory, and the directory of one may be given by mistake.
	for _, other := range []string{"what?", "", "{}", string(encode(t, newer, nil))} {
		_, v, err := memory.Load(ctx)
		if err == nil {
			err = memory.Swap(ctx, []byte(other), v)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := start(newer); err == nil || !strings.Contains(err.Error(), "left unchanged") {
			t.Errorf("a memory that is none: %v", err)
		}
		if data, _, _ := memory.Load(ctx); string(data) != other {
			t.Error("it was replaced")
		}
	}
}
