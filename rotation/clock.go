package rotation

import (
	"sync/atomic"
	"time"

	"oidc-provider/internal/hint"
)

// A Clock says what is known about the clock of this machine. now is what
// [time.Now] returned. confirmed means that something independent agrees with the
// clock, and wrong says what contradicts it by more than skew. Without either, it
// is unknown whether the clock is right. wrong wins. A Clock returns at once.
type Clock func(now time.Time, skew time.Duration) (confirmed bool, wrong error)

// A ClockError is the reason why a replica writes nothing, and, with Signing, why
// it does not sign: what it would do depends on a clock that may be wrong.
type ClockError struct {
	Wrong   error // what contradicts the clock, nil if it is only not confirmed
	Signing bool
}

func (e *ClockError) Error() string {
	text := "the clock is not confirmed"
	if e.Wrong != nil {
		text = "the clock is wrong: " + e.Wrong.Error()
	}
	if e.Signing {
		return text + "; at the time it shows, another key is active than when the ring was last written"
	}
	return text + "; nothing is written"
}

func (e *ClockError) Unwrap() error { return e.Wrong }

// Hint returns what to do about it.
func (e *ClockError) Hint() string {
	if e.Wrong != nil {
		return "set the clock, or, if it is right, the clock of what contradicts it"
	}
	return "let NTP set the clock, name a witness with {witnesses}, or set {trustClock} if the clock is looked after " +
		"in another way"
}

// A clockState is what a process knows about its clock. It belongs to the
// goroutine that calls tick, except for current.
type clockState struct {
	evidence Clock // nil if the clock is trusted
	jumps    jumpGuard
	current  atomic.Pointer[verdict]

	generation int64 // of the ring that was observed last
}

// A verdict is what is known about the clock. It is immutable.
type verdict struct {
	trusted bool // by the operator

	// confirmed is when the clock was last confirmed, zero for never. It stays
	// confirmed while the wall clock and the monotonic clock agree.
	confirmed time.Time
	wrong     error

	// future is the Updated of the newest ring if a clock that is right showed
	// an earlier time when it was read, else zero.
	future time.Time
}

func newClockState(evidence Clock, now time.Time) *clockState {
	c := &clockState{evidence: evidence, jumps: newJumpGuard(now)}
	c.current.Store(&verdict{trusted: evidence == nil})
	return c
}

// observe asks for evidence at now, when ring is the newest that is known.
func (c *clockState) observe(now time.Time, ring *Ring) {
	next, skew := *c.current.Load(), time.Duration(ring.Policy.ClockSkew)
	if c.evidence != nil {
		var confirmed bool
		confirmed, next.wrong = c.evidence(now, skew)
		// A ring that is new here, and was just written by the time that the clock
		// shows, confirms it. What remains: at a start, the ring may be just as old as
		// the clock is behind.
		age := now.Round(0).Sub(ring.Updated)
		if confirmed || next.wrong == nil && ring.Generation != c.generation && age.Abs() <= skew {
			next.confirmed = now
		}
		c.generation = ring.Generation
	}
	if !ring.Updated.Equal(next.future) {
		next.future = time.Time{}
	}
	if next.check(now, skew) == nil && ring.CheckClock(now) != nil {
		next.future = ring.Updated
	}
	c.current.Store(&next)
}

// mayWrite returns the reason why this process must not change ring.
func (c *clockState) mayWrite(now time.Time, ring *Ring) error {
	skew := time.Duration(ring.Policy.ClockSkew)
	if c.evidence == nil {
		if err := c.jumps.check(now, skew); err != nil {
			return err
		}
	}
	v := c.current.Load()
	if err := v.check(now, skew); err != nil {
		return err
	}
	if v.isFuture(ring, now) {
		// Events of the ring that are not past yet would count as past.
		return ring.errFuture()
	}
	return nil
}

// check returns a [*ClockError] unless the clock is confirmed or trusted.
func (v *verdict) check(now time.Time, skew time.Duration) error {
	switch {
	case v.trusted:
		return nil
	case v.wrong != nil:
		return &ClockError{Wrong: v.wrong}
	case v.confirmed.IsZero() || Jumped(v.confirmed, now).Abs() > skew:
		return &ClockError{}
	}
	return nil
}

// isFuture reports whether ring was written by a machine whose clock was ahead,
// and its time has not come yet.
func (v *verdict) isFuture(ring *Ring, now time.Time) bool {
	return ring.Updated.Equal(v.future) && now.Before(ring.Updated)
}

// signsAt returns the time whose active key signs at now. A clock that is not
// confirmed decides nothing: if another key became active between the last write
// of the ring and now, the error is a [*ClockError]. A clock that is right decides
// alone when the ring is from the future.
func (v *verdict) signsAt(ring *Ring, now time.Time) (time.Time, error) {
	at := ring.At(now)
	if err := v.check(now, time.Duration(ring.Policy.ClockSkew)); err != nil {
		if ring.Active(at).KeyID != ring.Active(ring.Updated).KeyID {
			return at, &ClockError{Wrong: v.wrong, Signing: true}
		}
		return at, nil
	}
	if !v.isFuture(ring, now) {
		return at, nil
	}
	for _, present := range []time.Time{now, ring.lastEvent(now)} {
		if active := ring.Active(present); active != nil && active.hasPrivate() {
			return present, nil
		}
	}
	return at, nil // the key of the present was revoked, or its private half deleted
}

// at returns the time of ring for this process: that of signsAt, or, while the
// clock could decide and must not, that of the last write.
func (c *clockState) at(ring *Ring, now time.Time) time.Time {
	at, err := c.current.Load().signsAt(ring, now)
	if err != nil {
		return ring.Updated
	}
	return at
}

// Jumped returns how far the wall clock has advanced more than the monotonic
// clock, zero for times without a reading of the latter.
func Jumped(from, to time.Time) time.Duration {
	return to.Round(0).Sub(from.Round(0)) - to.Sub(from)
}

// jumpPatience is how long a trusted clock that has jumped ahead is not trusted.
// It may be corrected. After that, the clock is taken to be right: the machine has
// slept, or the clock was wrong before.
const jumpPatience = 10 * time.Minute

// A jumpGuard prevents writes shortly after the clock has jumped ahead: what
// would be written then, such as the removal of keys, cannot be undone.
type jumpGuard struct {
	started time.Time

	// trusted is how far the wall clock has advanced more than the monotonic
	// clock since the start, as far as that is trusted.
	trusted time.Duration
	// since is the monotonic time at which the difference became larger than
	// trusted, negative if it has not.
	since time.Duration
}

func newJumpGuard(now time.Time) jumpGuard { return jumpGuard{started: now, since: -1} }

// check returns an error if the clock has jumped ahead by more than skew.
func (g *jumpGuard) check(now time.Time, skew time.Duration) error {
	monotonic := now.Sub(g.started)
	jump := Jumped(g.started, now) - g.trusted
	switch {
	case jump > skew && g.since < 0:
		g.since = monotonic
	case jump <= skew || monotonic-g.since >= jumpPatience:
		g.trusted, g.since = jump+g.trusted, -1
		return nil
	}
	return hint.Errorf("set the clock, or restart if it is right",
		"the clock jumped ahead by %v: nothing is written for %v", jump.Round(time.Second), jumpPatience)
}
