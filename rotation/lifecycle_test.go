package rotation_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// generateEC is fast, and the algorithm does not matter to a key's life.
func generateEC(rotation.Policy) (*jwks.SigningKey, error) { return jwks.Generate(jose.ES256, 0) }

func newRing(t *testing.T, p rotation.Policy) *rotation.Ring {
	t.Helper()
	r, err := rotation.New(simIssuer, p, epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// advance confirms the standby and does what is due at now.
func advance(t *testing.T, r *rotation.Ring, now time.Time) *rotation.Ring {
	t.Helper()
	var confirmed string
	if standby := r.Standby(r.At(now)); standby != nil {
		confirmed = standby.KeyID
	}
	next, _, err := rotation.Advance(r, now, confirmed, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func phases(r *rotation.Ring, now time.Time) string {
	var list []string
	for _, k := range r.Keys {
		list = append(list, string(k.Phase(now)))
	}
	return strings.Join(list, " ")
}

// The whole life of a key under the default policy, at its exact instants.
func TestLifeOfAKey(t *testing.T) {
	r := newRing(t, rotation.Policy{})
	first, second := r.Keys[0].KeyID, r.Keys[1].KeyID
	if got := phases(r, epoch); got != "active next" {
		t.Fatalf("a new ring is %q", got)
	}
	r = advance(t, r, epoch.Add(time.Minute))
	activation := epoch.Add(720 * time.Hour)
	if got := r.Keys[1].SignFrom; !got.Equal(activation) {
		t.Fatalf("activation at %v, want %v", got, activation)
	}
	removal := activation.Add(24*time.Hour + 10*time.Minute)
	for _, tt := range []struct {
		now    time.Time
		phases string
	}{
		{activation.Add(-time.Nanosecond), "active next"},
		{activation, "retired active next"},
		{removal.Add(-time.Nanosecond), "retired active next"},
		{removal, "active next"},
	} {
		r = advance(t, r, tt.now)
		if got := phases(r, tt.now); got != tt.phases {
			t.Errorf("at activation %+v: %q, want %q", tt.now.Sub(activation), got, tt.phases)
		}
	}
	if r.Keys[0].KeyID != second || !slices.Equal(r.Removed, []string{first}) {
		t.Errorf("%s signs and %v are gone, want %s and %s", r.Keys[0].KeyID, r.Removed, second, first)
	}
}

func TestPrivateHalfIsForgotten(t *testing.T) {
	r := advance(t, newRing(t, rotation.Policy{}), epoch)
	activation := r.Keys[1].SignFrom
	r = advance(t, r, activation.Add(10*time.Minute-1))
	if r.Keys[0].SigningKey() == nil {
		t.Error("forgotten while a slow clock may still sign")
	}
	r = advance(t, r, activation.Add(10*time.Minute))
	if r.Keys[0].SigningKey() != nil || len(r.Keys[0].Private) > 0 {
		t.Error("kept after the last clock has moved on")
	}
}

func TestActivationFollowsTheSchedule(t *testing.T) {
	for _, tt := range []struct {
		schedule  string
		ahead     time.Duration
		confirmed time.Duration // after the active key began
		want      string
	}{
		{"@every 720h", 24 * time.Hour, 0, "2026-03-31T12:00:00Z"},
		{"@every 720h", 24 * time.Hour, 719 * time.Hour, "2026-04-01T11:00:00Z"}, // late: at once, after PublishAhead
		{"@every 1h", 24 * time.Hour, 0, "2026-03-02T12:00:00Z"},
		{"@weekly", 24 * time.Hour, 0, "2026-03-08T00:00:00Z"},
		{"@weekly", 24 * time.Hour, 155 * time.Hour, "2026-03-15T00:00:00Z"},    // 1 h too late for this Sunday
		{"@weekly", 24 * time.Hour, 132 * time.Hour, "2026-03-08T00:00:00Z"},    // to the second
		{"0 3 1 * *", 24 * time.Hour, 0, "2026-04-01T03:00:00Z"},                // since 3:00 of the first is past
		{"0 3 1 * *", 24 * time.Hour, 1000 * time.Hour, "2026-05-01T03:00:00Z"}, // after an outage
	} {
		r := newRing(t, rotation.Policy{Schedule: tt.schedule, PublishAhead: rotation.Duration(tt.ahead)})
		r = advance(t, r, epoch.Add(tt.confirmed))
		if got := r.Keys[1].SignFrom.UTC().Format(time.RFC3339); got != tt.want {
			t.Errorf("%s, confirmed after %v: activation at %s, want %s", tt.schedule, tt.confirmed, got, tt.want)
		}
	}
}

func TestNothingToDoChangesNothing(t *testing.T) {
	r := advance(t, newRing(t, rotation.Policy{}), epoch)
	for _, d := range []time.Duration{0, time.Second, 719 * time.Hour} {
		if next := advance(t, r, epoch.Add(d)); next != r {
			t.Errorf("after %v something was done", d)
		}
	}
}

func TestUnconfirmedKeyIsNotPlanned(t *testing.T) {
	r := newRing(t, rotation.Policy{})
	for _, d := range []time.Duration{0, time.Hour, 5000 * time.Hour} {
		next, _, err := rotation.Advance(r, epoch.Add(d), "", generateEC)
		if err != nil {
			t.Fatal(err)
		}
		if next != r {
			t.Errorf("after %v without confirmation the ring changed", d)
		}
	}
}

func TestRotate(t *testing.T) {
	r := newRing(t, rotation.Policy{})
	var early *rotation.TooEarlyError
	if _, _, err := rotation.Rotate(r, epoch, false, generateEC); !errors.As(err, &early) || !early.Confirmed.IsZero() {
		t.Errorf("before confirmation: got %v", err)
	}
	r = advance(t, r, epoch)
	at := epoch.Add(24*time.Hour - 1)
	if _, _, err := rotation.Rotate(r, at, false, generateEC); !errors.As(err, &early) || !early.From.Equal(epoch.Add(24*time.Hour)) {
		t.Errorf("a moment too early: got %v", err)
	}
	forced, _, err := rotation.Rotate(r, at, true, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	if got := phases(forced, at); got != "retired active next" || !forced.Keys[1].Forced {
		t.Errorf("forced: %s, says so: %v", got, forced.Keys[1].Forced)
	}
	at = epoch.Add(24 * time.Hour)
	rotated, _, err := rotation.Rotate(r, at, false, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	if got := phases(rotated, at); got != "retired active next" || rotated.Keys[1].Forced {
		t.Errorf("in time: %s, called forced: %v", got, rotated.Keys[1].Forced)
	}
	// A replica that has not heard of it may sign for another 24 hours, by
	// its own clock.
	if got, want := rotated.Keys[0].RemoveAt(), at.Add(48*time.Hour+20*time.Minute); !got.Equal(want) {
		t.Errorf("the old key is removed at %v, want %v", got, want)
	}
}

func TestRevoke(t *testing.T) {
	r := advance(t, newRing(t, rotation.Policy{}), epoch)
	now := epoch.Add(time.Hour)
	for i, want := range []string{"revoked active next", "active revoked next"} {
		next, events, err := rotation.Revoke(r, r.Keys[i].KeyID, now, generateEC)
		if err != nil {
			t.Fatal(err)
		}
		if got := phases(next, now); got != want || events[0].Msg != "the key is revoked" {
			t.Errorf("revoking key %d: %s, want %s; %v", i, got, want, events)
		}
		if next.Keys[i].Published() || len(next.Keys[i].Private) > 0 {
			t.Errorf("revoked key %d is published or keeps its private half", i)
		}
		if again, _, err := rotation.Revoke(next, r.Keys[i].KeyID, now, generateEC); again != next || err != nil {
			t.Errorf("revoking key %d twice: %v", i, err)
		}
		if _, err := rotation.ImportVerifying(next, r.Keys[i].PublicKey(), false, now); err == nil {
			t.Errorf("revoked key %d came back by import", i)
		}
	}
	if _, _, err := rotation.Revoke(r, "none", now, generateEC); err == nil || !strings.Contains(text(err), "keys list") {
		t.Errorf("unknown kid: %v", err)
	}
}

func TestSetPolicyKeepsPromises(t *testing.T) {
	r := advance(t, newRing(t, rotation.Policy{}), epoch)
	set := func(r *rotation.Ring, p rotation.Policy) *rotation.Ring {
		t.Helper()
		next, err := rotation.SetPolicy(r, p, epoch.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	retention := func(r *rotation.Ring) (hours []float64) {
		for _, k := range r.Keys {
			hours = append(hours, (time.Duration(k.Retention) - 10*time.Minute).Hours())
		}
		return hours
	}
	if set(r, rotation.Policy{}) != r || set(r, r.Policy) != r {
		t.Error("a policy that is the same changed the ring")
	}
	longer := set(r, rotation.Policy{MaxTokenLifetime: rotation.Duration(48 * time.Hour)})
	if got := retention(longer); !slices.Equal(got, []float64{48, 48}) {
		t.Errorf("longer lifetime: retention %v", got)
	}
	shorter := set(longer, rotation.Policy{MaxTokenLifetime: rotation.Duration(time.Hour)})
	if got := retention(shorter); !slices.Equal(got, []float64{48, 48}) {
		// The first change took the next key's date away, but a replica that
		// has not heard of it may sign with that key anyway.
		t.Errorf("shorter lifetime: retention %v", got)
	}
	undated := set(newRing(t, rotation.Policy{}), rotation.Policy{MaxTokenLifetime: rotation.Duration(time.Hour)})
	if got := retention(undated); !slices.Equal(got, []float64{24, 1}) {
		t.Errorf("shorter lifetime, and a key that never had a date: retention %v", got)
	}
	sooner := advance(t, set(r, rotation.Policy{Schedule: "@every 48h"}), epoch.Add(time.Hour))
	if got, want := sooner.Keys[1].SignFrom, epoch.Add(48*time.Hour); !got.Equal(want) {
		t.Errorf("new schedule: activation at %v, want %v", got, want)
	}
	ahead := rotation.Policy{Schedule: "@every 1h", PublishAhead: rotation.Duration(time.Hour)}
	known := advance(t, set(r, ahead), epoch.Add(2*time.Hour))
	if got, want := known.Keys[1].SignFrom, epoch.Add(24*time.Hour); !got.Equal(want) {
		t.Errorf("shorter PublishAhead: a key that is out is planned for %v, want %v", got, want)
	}
	unknown := advance(t, set(newRing(t, rotation.Policy{}), ahead), epoch.Add(2*time.Hour))
	if got, want := unknown.Keys[1].SignFrom, epoch.Add(3*time.Hour); !got.Equal(want) {
		t.Errorf("shorter PublishAhead: a key that no replica has read of is planned for %v, want %v", got, want)
	}
	if _, err := rotation.SetPolicy(r, rotation.Policy{Schedule: "never"}, epoch); err == nil {
		t.Error("a schedule that cannot be read was set")
	}
}

// A shorter PublishAhead reaches replicas and caches late: replicas that have
// read the old ring just before may publish it for half of the longer one, and
// caches may keep that for max-age. No key that the old ring lacks signs before, whatever else
// happens meanwhile, unless it is forced.
func TestShorterPublishAheadIsNewsToCaches(t *testing.T) {
	const day = 24 * time.Hour
	minutes := rotation.Duration(10 * time.Minute)
	base := advance(t, newRing(t, rotation.Policy{PublishAhead: rotation.Duration(day), MaxTokenLifetime: minutes}), epoch)
	at := epoch.Add(100 * time.Hour)
	known := at.Add(base.Policy.Freshness() + base.Policy.MaxAgeLimit())
	shorter, err := rotation.SetPolicy(base, rotation.Policy{Schedule: "@every 1h", PublishAhead: rotation.Duration(2 * time.Hour)}, at)
	if err != nil {
		t.Fatal(err)
	}
	revoke := func(phase rotation.Phase) func(*rotation.Ring, time.Time) (*rotation.Ring, []rotation.Event, error) {
		return func(r *rotation.Ring, now time.Time) (*rotation.Ring, []rotation.Event, error) {
			i := slices.IndexFunc(r.Keys, func(k rotation.Key) bool { return k.Phase(now) == phase })
			return rotation.Revoke(r, r.Keys[i].KeyID, now, generateEC)
		}
	}
	rotate := func(r *rotation.Ring, now time.Time) (*rotation.Ring, []rotation.Event, error) {
		return rotation.Rotate(r, now, true, generateEC)
	}
	type step struct {
		after time.Duration
		do    func(*rotation.Ring, time.Time) (*rotation.Ring, []rotation.Event, error)
	}
	for name, steps := range map[string][]step{
		"the new schedule hands over at once": nil,
		"the next key is revoked":             {{0, revoke(rotation.Next)}},
		"the active key is revoked":           {{0, revoke(rotation.Active)}},
		"rotated by force":                    {{0, rotate}},
		"revoked some hours later":            {{0, revoke(rotation.Next)}, {5 * time.Hour, revoke(rotation.Next)}},
		"no key of the old ring is left":      {{0, revoke(rotation.Next)}, {0, revoke(rotation.Active)}, {5 * time.Hour, revoke(rotation.Next)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := shorter
			for now := at; now.Before(at.Add(2 * day)); now = now.Add(10 * time.Minute) {
				for len(steps) > 0 && !now.Before(at.Add(steps[0].after)) {
					next, _, err := steps[0].do(r, now)
					if err != nil {
						t.Fatal(err)
					}
					r, steps = next, steps[1:]
				}
				for next := advance(t, r, now); next != r; next = advance(t, r, now) {
					r = next
				}
				if k := r.Active(now); now.Before(known) && !base.Knows(k.KeyID) && !k.Forced {
					t.Fatalf("%v after the change a key signs that caches may lack for another %v", now.Sub(at), known.Sub(now))
				}
			}
			if got := r.Standby(r.Updated).PublishAhead; got != r.Policy.PublishAhead {
				t.Errorf("two days later the next key has a lead of %v, want %v", got, r.Policy.PublishAhead)
			}
		})
	}
}

func TestClockBehindTheRing(t *testing.T) {
	r := newRing(t, rotation.Policy{})
	if err := r.CheckClock(epoch.Add(-10 * time.Minute)); err != nil {
		t.Errorf("ten minutes behind: %v", err)
	}
	late := epoch.Add(-10*time.Minute - 1)
	_, _, advanceErr := rotation.Advance(r, late, "", generateEC)
	_, _, rotateErr := rotation.Rotate(r, late, true, generateEC)
	_, _, revokeErr := rotation.Revoke(r, r.Keys[0].KeyID, late, generateEC)
	_, policyErr := rotation.SetPolicy(r, rotation.Policy{Schedule: "@weekly"}, late)
	_, importErr := rotation.ImportVerifying(r, simKeys[0].PublicKey, false, late)
	for _, err := range []error{advanceErr, rotateErr, revokeErr, policyErr, importErr} {
		if err == nil || !strings.Contains(text(err), "set the clock") {
			t.Errorf("more than ten minutes behind: %v", err)
		}
	}
	// It signs with the key that is active at the ring's own time.
	rotated, _, err := rotation.Rotate(r, epoch, true, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	for _, now := range []time.Time{late, epoch.AddDate(-2, 0, 0)} {
		s, err := rotation.NewView(rotated).Signer(now)
		if want := rotated.Active(epoch).KeyID; err != nil || s.Key.KeyID() != want {
			t.Errorf("at %v %v signs, %v; want %s", now, s.Key, err, want)
		}
	}
}

func TestImport(t *testing.T) {
	key, other := simKeys[0], simKeys[1]
	r, err := rotation.NewFrom(key, rotation.ExtendedLifetime, simIssuer, rotation.Policy{}, epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Active(epoch); got.KeyID != key.KeyID() || got.SigningKey() == nil {
		t.Errorf("a ring begun with a key signs with %s", got.KeyID)
	}
	if got, want := time.Duration(r.Keys[0].Retention), 365*24*time.Hour+10*time.Minute; got != want {
		t.Errorf("it is retained for %v, want %v: kube-apiserver's tokens live for a year", got, want)
	}
	r, err = rotation.ImportVerifying(r, other.PublicKey, true, epoch)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range rotation.NewView(r).KeySet() {
		if k.KeyID() == other.KeyID() {
			t.Error("an excluded key is in the key set")
		}
	}
	if _, err := rotation.ImportVerifying(r, other.PublicKey, false, epoch); err == nil {
		t.Error("a key was imported twice")
	}
	if far := advance(t, r, epoch.Add(50000*time.Hour)); phases(far, far.Updated) != "verify-only active next" &&
		phases(far, far.Updated) != "active next verify-only" {
		t.Errorf("after years: %s", phases(far, far.Updated))
	}

	fresh := newRing(t, rotation.Policy{})
	begun, err := rotation.ImportSigning(fresh, key, time.Hour, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if got := phases(begun, epoch); got != "retired next active" {
		t.Errorf("a private key in a fresh ring: %s", got)
	}
	if _, err := rotation.ImportSigning(advance(t, fresh, epoch), key, time.Hour, epoch); err == nil {
		t.Error("a private key was imported into a ring that is published")
	}
}

// Three years of weekly rotation: one key signs after the other, on Sundays,
// and the key set stays small.
func TestYears(t *testing.T) {
	r := newRing(t, rotation.Policy{Schedule: "@weekly"})
	signed := map[string]bool{}
	for now := epoch; now.Before(epoch.AddDate(3, 0, 0)); {
		r = advance(t, r, now)
		signed[r.Active(now).KeyID] = true
		if n := len(r.Keys); n > 3 {
			t.Fatalf("%d keys at %v", n, now)
		}
		next := r.NextInstant(now)
		if !next.After(now) {
			t.Fatalf("the next instant after %v is %v", now, next)
		}
		now = next
	}
	if got := len(signed); got != 157 { // 156 Sundays in between
		t.Errorf("%d keys have signed, want 157", got)
	}
}

func TestPolicyRefuses(t *testing.T) {
	for want, p := range map[string]rotation.Policy{
		"unknown algorithm":      {Algorithm: "HS256"},
		"want one of":            {RSABits: 1024},
		"write \"@every":         {Schedule: "weekly"},
		"no time matches":        {Schedule: "0 0 30 2 *"},
		"publish-ahead":          {PublishAhead: -1},
		"longest token lifetime": {MaxTokenLifetime: rotation.Duration(200 * 365 * 24 * time.Hour)},
		"1s to":                  {Schedule: "@every 1000000h"},
		"of 1s":                  {Schedule: "@every 1ms"},
		"interval":               {Schedule: "@every -1h"},
		"time zones":             {Schedule: "TZ=UTC"},
		"in UTC":                 {Schedule: "CRON_TZ=Asia/Tokyo 0 3 1 * *"},
	} {
		if err := p.Validate(); err == nil || !strings.Contains(text(err), want) {
			t.Errorf("%+v: got %v, want an error with %q", p, err, want)
		}
	}
	if w := (rotation.Policy{}).Warnings(); len(w) > 0 {
		t.Errorf("the default policy warns: %q", w)
	}
	for want, p := range map[string]rotation.Policy{
		"below 1h":             {PublishAhead: rotation.Duration(time.Minute)},
		"the clock skew, 2h":   {PublishAhead: rotation.Duration(time.Hour), ClockSkew: rotation.Duration(2 * time.Hour)},
		"for ES512":            {Algorithm: "ES512"},
		"Google Cloud refuses": {MaxTokenLifetime: rotation.Duration(25 * time.Hour)},
		"keys are published":   {Schedule: "@every 1h", PublishAhead: rotation.Duration(time.Hour)},
	} {
		if w := p.Warnings(); len(w) == 0 || !strings.Contains(strings.Join(w, "\n"), want) {
			t.Errorf("%+v: got warnings %q, want %q", p, w, want)
		}
	}
}
