package rotation

import (
	"testing"
	"time"
)

func TestJumpGuard(t *testing.T) {
	const skew, year = 10 * time.Minute, 365 * 24 * time.Hour
	g := newClockGuard(time.Time{})
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
		if err := g.compare(step.wall, step.monotonic, skew); (err == nil) != step.ok {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}
