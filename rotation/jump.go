package rotation

import (
	"fmt"
	"time"
)

// jumpPatience is how long a clock that has jumped is not believed. It may be
// set right again; after that it is the world that has changed, or the machine
// that has slept.
const jumpPatience = 10 * time.Minute

// A jumpGuard keeps a process from writing just after its clock has jumped
// ahead: everything that it would do then, like removing keys, is for ever.
type jumpGuard struct {
	// trusted is by how much the wall clock has run ahead of the monotonic
	// one since the start, as far as that is believed.
	trusted time.Duration
	// since is the monotonic time at which it became more, negative if it
	// has not.
	since time.Duration
}

// check reports a jump by more than skew. wall and monotonic are the times
// since the start on the two clocks.
func (g *jumpGuard) check(wall, monotonic, skew time.Duration) error {
	jump := wall - monotonic - g.trusted
	switch {
	case jump > skew && g.since < 0:
		g.since = monotonic
	case jump <= skew || monotonic-g.since >= jumpPatience:
		g.trusted, g.since = wall-monotonic, -1
		return nil
	}
	return fmt.Errorf("the clock jumped ahead by %v: nothing is written for %v (hint: set the clock, or restart if it is right)",
		jump.Round(time.Second), jumpPatience)
}
