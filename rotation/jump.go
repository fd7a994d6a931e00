package rotation

import (
	"time"

	"oidc-provider/internal/hint"
)

// jumpPatience is how long a clock that has jumped ahead is not trusted. It may
// be corrected. After that, the clock is taken to be right: the machine has
// slept, or the clock was wrong before.
const jumpPatience = 10 * time.Minute

// A clockGuard prevents writes shortly after the clock has jumped ahead: what
// would be written then, such as the removal of keys, cannot be undone.
type clockGuard struct {
	started time.Time

	// trusted is how far the wall clock has advanced more than the monotonic
	// clock since the start, as far as that is trusted.
	trusted time.Duration
	// since is the monotonic time at which the difference became larger than
	// trusted, negative if it has not.
	since time.Duration
}

func newClockGuard(now time.Time) clockGuard { return clockGuard{started: now, since: -1} }

// check returns an error if the clock has jumped ahead by more than skew.
func (g *clockGuard) check(now time.Time, skew time.Duration) error {
	return g.compare(now.Round(0).Sub(g.started.Round(0)), now.Sub(g.started), skew)
}

// compare does the work of check, with the times since the start by the wall
// clock and by the monotonic clock.
func (g *clockGuard) compare(wall, monotonic, skew time.Duration) error {
	jump := wall - monotonic - g.trusted
	switch {
	case jump > skew && g.since < 0:
		g.since = monotonic
	case jump <= skew || monotonic-g.since >= jumpPatience:
		g.trusted, g.since = wall-monotonic, -1
		return nil
	}
	return hint.Errorf("set the clock, or restart if it is right",
		"the clock jumped ahead by %v: nothing is written for %v", jump.Round(time.Second), jumpPatience)
}
