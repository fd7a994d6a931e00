package rotation

import (
	"errors"
	"testing"
	"time"
)

func TestReading(t *testing.T) {
	wall := time.Date(2026, 1, 1, 0, 0, 0, 7, time.UTC)
	a, b := Reading(wall, time.Minute), Reading(wall.Add(time.Hour), 3*time.Minute)
	if !a.Equal(wall) || b.Sub(a) != 2*time.Minute || Jumped(a, b) != 58*time.Minute || Jumped(a, b.Round(0)) != 0 {
		t.Errorf("%v %v %v", a, b.Sub(a), Jumped(a, b))
	}
}

func TestJumpGuard(t *testing.T) {
	const skew, year = 10 * time.Minute, 365 * 24 * time.Hour
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	g := newJumpGuard(Reading(start, 0))
	for _, step := range []struct {
		name            string
		wall, monotonic time.Duration
		ok              bool
	}{
		{"start", 0, 0, true},
		{"clocks agree", time.Hour, time.Hour, true},
		{"set by a little", time.Hour + skew, time.Hour, true},
		{"a year ahead", time.Hour + skew + year, time.Hour, false},
		{"still", 2*time.Hour + year, time.Hour + 9*time.Minute, false},
		{"set right again", time.Hour + 20*time.Minute, time.Hour + 10*time.Minute, true},
		{"set back", time.Hour, 2 * time.Hour, true},
		{"a night's sleep", 9 * time.Hour, 2 * time.Hour, false},
		{"ten minutes later", 9*time.Hour + 10*time.Minute, 2*time.Hour + 10*time.Minute, true},
		{"and after", 10 * time.Hour, 3 * time.Hour, true},
	} {
		if err := g.check(Reading(start.Add(step.wall), step.monotonic), skew); (err == nil) != step.ok {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

func TestClockState(t *testing.T) {
	const day = 24 * time.Hour
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ring := &Ring{
		Updated: start, Policy: DefaultPolicy,
		Keys: []Key{{KeyID: "a", SignFrom: start, SignUntil: start.Add(10 * day), Private: Secret{1}}, {KeyID: "b", SignFrom: start.Add(10 * day)}},
	}
	var confirmed bool
	var wrong error
	evidence := func(time.Time, time.Duration) (bool, error) { return confirmed, wrong }
	c := newClockState(evidence, start)
	for _, step := range []struct {
		name            string
		wall, monotonic time.Duration
		confirmed       bool
		wrong           error
		writes          bool
		signs           string
		written         int64 // generations since the last step
	}{
		{"nothing is known", time.Hour, 0, false, nil, false, "a", 0},
		{"nothing is known, past an activation", 40 * day, time.Minute, false, nil, false, "", 0},
		{"wrong", 0, 2 * time.Minute, false, errors.New("x"), false, "a", 0},
		{"wrong, past an activation", 40 * day, 3 * time.Minute, false, errors.New("x"), false, "", 0},
		{"wrong wins", 40 * day, 3 * time.Minute, true, errors.New("x"), false, "", 0},
		{"confirmed", time.Hour, time.Hour, true, nil, true, "a", 0},
		{"it stays so", 11 * day, 11 * day, false, nil, true, "b", 0},
		{"while nothing contradicts", 11 * day, 11 * day, false, errors.New("x"), false, "", 0},
		{"and after", 11 * day, 11 * day, false, nil, true, "b", 0},
		{"set by the skew", 11*day + 10*time.Minute, 11 * day, false, nil, true, "b", 0},
		{"set by more", 11*day + 10*time.Minute + 1, 11 * day, false, nil, false, "", 0},
		{"set right again", 11 * day, 11 * day, false, nil, true, "b", 0},
		{"set back by more than the skew", 11*day - 11*time.Minute, 11 * day, false, nil, false, "", 0},
		{"behind the ring", -day, 11 * day, false, nil, false, "a", 0},
		{"years behind", -2000 * day, 11 * day, false, errors.New("x"), false, "a", 0},
		{"the ring gets as old as the clock is behind", 10 * time.Minute, 12 * day, false, nil, false, "a", 0},
		{"the ring was just written", 10 * time.Minute, 12 * day, false, nil, true, "a", 1},
		{"and the clock has run since", day, 13*day - 10*time.Minute, false, nil, true, "a", 0},
		{"the ring was written when the clock was wrong", 10 * time.Minute, 14 * day, false, errors.New("x"), false, "a", 0},
	} {
		now := Reading(start.Add(step.wall), step.monotonic)
		confirmed, wrong = step.confirmed, step.wrong
		ring.Generation += step.written
		c.observe(now, ring)
		if err := c.mayWrite(now, ring); (err == nil) != step.writes {
			t.Errorf("%s: writes: %v", step.name, err)
		}
		signs := ""
		at, err := c.current.Load().signsAt(ring, now)
		if err == nil {
			signs = ring.Active(at).KeyID
		}
		var reason *ClockError
		if signs != step.signs || err != nil && !(errors.As(err, &reason) && reason.Signing && reason.Wrong == wrong) {
			t.Errorf("%s: %q signs, %v; want %q", step.name, signs, err, step.signs)
		}
	}
}

// Between two observations, a jump is noticed by every call.
func TestClockStateNoticesJumps(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ring := &Ring{Updated: start, Policy: DefaultPolicy}
	c := newClockState(func(time.Time, time.Duration) (bool, error) { return true, nil }, start)
	c.observe(Reading(start, 0), ring)
	jumped := Reading(start.Add(time.Hour), time.Second)
	if err := c.current.Load().check(jumped, 10*time.Minute); err == nil {
		t.Error("confirmed after a jump")
	}
}

// A clock that is right does not follow a ring from the future.
func TestRingFromTheFuture(t *testing.T) {
	start, hour := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Hour
	ring := &Ring{
		Updated: start.Add(2 * hour), Policy: DefaultPolicy,
		Keys: []Key{{KeyID: "a", SignFrom: start, SignUntil: start.Add(hour), Private: Secret{1}}, {KeyID: "b", SignFrom: start.Add(hour), Private: Secret{1}}},
	}
	for _, evidence := range []Clock{nil, func(time.Time, time.Duration) (bool, error) { return true, nil }} {
		c := newClockState(evidence, start)
		for _, step := range []struct {
			after  time.Duration
			writes bool
			signs  string
		}{
			{0, false, "a"}, {hour, false, "b"}, {2*hour - time.Minute, false, "b"}, {2 * hour, true, "b"},
		} {
			now := start.Add(step.after)
			c.observe(now, ring)
			at, err := c.current.Load().signsAt(ring, now)
			if err != nil || ring.Active(at).KeyID != step.signs {
				t.Errorf("after %v: %v, %v", step.after, at, err)
			}
			if err := c.mayWrite(now, ring); (err == nil) != step.writes {
				t.Errorf("after %v: writes: %v", step.after, err)
			}
		}
	}
	// Without the key that was active by then, the ring decides.
	ring.Keys[0].RevokedAt = ring.Updated
	c := newClockState(nil, start)
	c.observe(start, ring)
	if at, err := c.current.Load().signsAt(ring, start); err != nil || ring.Active(at).KeyID != "b" {
		t.Errorf("revoked: %v, %v", at, err)
	}
}
