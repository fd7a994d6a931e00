package rotation_test

import (
	"strings"
	"testing"
	"time"

	"oidc-provider/rotation"
)

func TestRepairClock(t *testing.T) {
	const day = 24 * time.Hour
	// first is a ring with an activation planned for epoch+30d.
	first := written(t, advance(t, newRing(t, rotation.Policy{}), epoch))
	a, b := first.Keys[0].KeyID, first.Keys[1].KeyID
	must := func(r *rotation.Ring, err error) *rotation.Ring {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	rotate := func(r *rotation.Ring, now time.Time) *rotation.Ring {
		r, _, err := rotation.Rotate(r, now, true, generateEC)
		return must(r, err)
	}
	revoke := func(r *rotation.Ring, kid string, now time.Time) *rotation.Ring {
		r, _, err := rotation.Revoke(r, kid, now, generateEC)
		return must(r, err)
	}
	imported := func(r *rotation.Ring, now time.Time) *rotation.Ring {
		return must(rotation.ImportVerifying(r, simKeys[0].PublicKey, false, now))
	}
	for _, tt := range []struct {
		name   string
		ring   func(now time.Time) *rotation.Ring // from the future of now
		now    time.Time
		signs  string
		phases string
		plan   time.Time // of b
	}{
		{"an import, an hour ahead", func(now time.Time) *rotation.Ring { return imported(first, now.Add(time.Hour)) },
			epoch.Add(day), a, "active next verify-only", time.Time{}},
		{"an import, past an activation", func(now time.Time) *rotation.Ring { return imported(first, now.Add(40*day)) },
			epoch.Add(day), a, "active next verify-only", time.Time{}},
		{"an import, an activation that may have happened", func(now time.Time) *rotation.Ring { return imported(first, now.Add(40*day)) },
			epoch.Add(30*day - 5*time.Minute), a, "active next verify-only", epoch.Add(30 * day)},
		{"a rotation", func(now time.Time) *rotation.Ring { return rotate(first, now.Add(time.Hour)) },
			epoch.Add(day), a, "active next next", time.Time{}},
		{"two rotations", func(now time.Time) *rotation.Ring {
			return rotate(rotate(first, now.Add(time.Hour)), now.Add(2*time.Hour))
		},
			epoch.Add(day), a, "active next next next", time.Time{}},
		{"a revocation of the active key", func(now time.Time) *rotation.Ring { return revoke(first, a, now.Add(time.Hour)) },
			epoch.Add(day), b, "revoked active next", epoch.Add(day)},
		{"a revocation of the next key", func(now time.Time) *rotation.Ring { return revoke(first, b, now.Add(time.Hour)) },
			epoch.Add(day), a, "active revoked next", epoch.Add(30 * day)},
		{"a server that has deleted the private half", func(now time.Time) *rotation.Ring {
			return advance(t, rotate(first, now.Add(time.Hour)), now.Add(26*time.Hour))
		}, epoch.Add(day), b, "retired active next", epoch.Add(day)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			future := written(t, tt.ring(tt.now))
			r, err := rotation.RepairClock(future, tt.now)
			if err != nil {
				t.Fatal(err)
			}
			data, err := must(r.Seal(t.Context(), nil)).Encode()
			if err != nil {
				t.Fatal(err)
			}
			if r, err = rotation.Decode(data); err != nil {
				t.Fatal(err)
			}
			if got := phases(r, tt.now); got != tt.phases || r.Active(tt.now).KeyID != tt.signs {
				t.Errorf("%s; %s signs, want %s; %s", got, r.Active(tt.now).KeyID, tt.phases, tt.signs)
			}
			for _, k := range r.Keys {
				if k.KeyID == b && !k.SignFrom.Equal(tt.plan) {
					t.Errorf("%s signs from %v, want %v", b, k.SignFrom, tt.plan)
				}
				for _, at := range []time.Time{k.Created, k.PublishAt, k.ConfirmedAt, k.RevokedAt} {
					if at.After(tt.now) {
						t.Errorf("%s: %v is after %v", k.KeyID, at, tt.now)
					}
				}
				if k.MaySignUntil.After(tt.now.Add(day + 10*time.Minute)) {
					t.Errorf("%s may sign until %v", k.KeyID, k.MaySignUntil)
				}
			}
			if !r.Updated.Equal(tt.now) || r.Version != 4 || r.Generation != future.Generation+1 {
				t.Errorf("generation %d of %v, version %d", r.Generation, r.Updated, r.Version)
			}
			for _, seen := range []rotation.Seen{first.Seen(), future.Seen()} {
				if err := r.CheckAgainst(seen); err != nil {
					t.Error(err)
				}
			}
			if err := future.CheckAgainst(r.Seen()); err == nil {
				t.Error("the ring from the future is accepted after it was repaired")
			}
			// Life goes on.
			if _, _, err := rotation.Advance(r, tt.now, b, generateEC); err != nil {
				t.Error(err)
			}
		})
	}
	// A mark that is older than what was seen excuses nothing.
	repaired := must(rotation.RepairClock(imported(first, epoch.Add(day)), epoch))
	again := rotate(repaired, epoch.Add(2*day))
	backwards := rotate(repaired, epoch.Add(day))
	seen := again.Seen()
	seen.KeyIDs, seen.Gone = nil, nil
	if err := rotate(backwards, epoch.Add(day)).CheckAgainst(seen); err == nil || !strings.Contains(err.Error(), "went back in time") {
		t.Errorf("an older mark: %v", err)
	}
	for _, now := range []time.Time{epoch, epoch.Add(-10 * time.Minute), epoch.Add(day)} {
		if r, err := rotation.RepairClock(first, now); err == nil || r != first {
			t.Errorf("at %v: a ring that is not from the future was repaired", now)
		}
	}
}

// Of many repairs the last few are kept.
func TestManyRepairs(t *testing.T) {
	r := newRing(t, rotation.Policy{})
	for i := range 10 {
		now := epoch.Add(time.Duration(i) * 24 * time.Hour)
		r, _, _ = rotation.Rotate(r, now.Add(time.Hour), true, generateEC)
		var err error
		if r, err = rotation.RepairClock(r, now); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.ClockRepairs) != 4 || r.ClockRepairs[3].Generation != r.Generation {
		t.Errorf("%v", r.ClockRepairs)
	}
}
