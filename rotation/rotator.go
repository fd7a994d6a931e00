package rotation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"oidc-provider/internal/hint"
)

// A Publisher publishes the key set to relying parties.
type Publisher interface {
	// Publish publishes the key set of v. It returns nil when every request
	// from now on is answered with it. It is called again after an error, but
	// not for a view that it has confirmed.
	Publish(ctx context.Context, v *View) error
}

// Config configures a [Rotator]. Store, Issuer and Log must be set.
type Config struct {
	Store Store

	// Issuer is the issuer of the ring. The ring of another issuer is refused.
	Issuer string

	// Access says which ring is trusted, and opens it. A sealed ring cannot sign
	// without a Sealer.
	Access

	// PublishOnly makes this a replica that publishes the key set and neither
	// signs nor writes. It needs no Sealer.
	PublishOnly bool

	// Witnessed is what witnesses publish. While the ring lacks one of their keys it
	// may be an old backup, and nothing is written.
	Witnessed []Seen

	// RollbackState, if set, keeps what this replica has seen of the ring until
	// its next start. It is a store of its own, best on another machine than
	// the ring's.
	RollbackState Store

	// Clock is the evidence for the clock of this machine. A replica whose clock
	// is not confirmed writes nothing, and signs as long as that does not depend
	// on its clock; publishing never does. Nil trusts the clock, except for ten
	// minutes after it has jumped ahead.
	Clock Clock

	// Publishers must all confirm a key before its activation is planned.
	// If there are none, reading the ring is confirmation.
	Publishers []Publisher

	// Poll is the time between two reads of the ring. The default is 500ms, so
	// that changes made elsewhere are noticed within a second. For a [Watcher]
	// it is a twentieth of the ring's PublishAhead, at least 500ms and at most
	// 2s: the watch reports changes at once, and the poll covers a watch that
	// is broken unnoticed. Failed reads are repeated after 500ms.
	Poll time.Duration

	// Timeout limits the reading, writing and publishing of one tick.
	// Default 30s.
	Timeout time.Duration

	// Generate makes new keys. Default [GenerateKey].
	Generate Generate

	// Log gets a record for everything that happens to a key. Failures are
	// logged when they start, change and end.
	Log *slog.Logger
}

// A Rotator reads, changes and publishes the ring of one issuer, together with
// any number of other rotators on the same store. Its methods may be called by
// several goroutines.
type Rotator struct {
	cfg Config

	view atomic.Pointer[View]
	// read is the time at which view was last known to be the newest. It is set
	// after view, so that it is never newer than the view that goes with it.
	read atomic.Pointer[time.Time]

	failure atomic.Pointer[error] // of the last tick
	failed  atomic.Uint64         // ticks that failed

	// unpublished says that the last attempt to publish the view failed.
	unpublished atomic.Bool

	clock *clockState

	// The fields below belong to the goroutine that calls tick.
	reader    reader
	writer    writer
	narrator  narrator
	published *Ring  // the ring that all publishers have confirmed
	confirmed string // the kid of the last next key in published
}

// Open reads the ring and publishes it: the first ticks of [Rotator.Run]. It
// returns an error if the store cannot be read, or [ErrEmpty] if it is empty.
func Open(ctx context.Context, cfg Config) (*Rotator, error) {
	return open(ctx, cfg, time.Now)
}

// maxOpenTicks is enough for reading, opening and confirming, once again if
// another replica writes at the same time.
const maxOpenTicks = 6

func open(ctx context.Context, cfg Config, clock func() time.Time) (*Rotator, error) {
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	if cfg.Generate == nil {
		cfg.Generate = GenerateKey
	}
	r := &Rotator{
		cfg:      cfg,
		writer:   writer{store: cfg.Store, sealer: cfg.Sealer, generate: cfg.Generate},
		narrator: narrator{log: cfg.Log},
		clock:    newClockState(cfg.Clock, clock()),
	}
	r.failure.Store(new(error))
	var err error
	if r.reader, err = newReader(ctx, cfg); err != nil {
		return nil, err
	}
	for range maxOpenTicks {
		again, err := r.tick(ctx, clock())
		if r.View() == nil {
			return nil, err
		}
		r.report(again, err)
		if !again {
			break
		}
	}
	return r, nil
}

// Run keeps the ring up to date until ctx is done.
func (r *Rotator) Run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	if w, watches := r.cfg.Store.(Watcher); watches {
		go w.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default: // the next tick has not started yet and will see the change
			}
		})
	}
	for ctx.Err() == nil {
		now := time.Now()
		again, err := r.tick(ctx, now)
		if ctx.Err() != nil {
			return
		}
		r.report(again, err)
		wait := r.wait(now, err)
		if again {
			wait = againAfter
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// againAfter prevents a busy loop when a store contradicts itself.
const againAfter = 5 * time.Millisecond

// wait returns the time until the next poll or the next instant of the ring,
// after a tick that started at ticked and failed with err or not. An instant
// that passed during the tick is due at once.
func (r *Rotator) wait(ticked time.Time, err error) time.Duration {
	ring := r.View().ring
	poll := r.poll(ring.Policy)
	if err != nil && r.cfg.Poll == 0 {
		poll = defaultPoll
	}
	next := ring.NextInstant(ticked)
	if next.IsZero() {
		return poll
	}
	return min(poll, time.Until(next))
}

// Limits of the time between two reads, unless [Config.Poll] sets another.
const (
	defaultPoll = 500 * time.Millisecond
	maxPoll     = 2 * time.Second
)

func (r *Rotator) poll(p Policy) time.Duration {
	if r.cfg.Poll != 0 {
		return r.cfg.Poll
	}
	if _, watches := r.cfg.Store.(Watcher); watches {
		return min(max(time.Duration(p.PublishAhead)/20, defaultPoll), maxPoll)
	}
	return defaultPoll
}

// report notes how a tick ended. A tick that has another one follow at once
// does not end a failure: it may not have tried what failed.
func (r *Rotator) report(again bool, err error) {
	if err == nil && again {
		return
	}
	if err != nil {
		r.failed.Add(1)
	}
	before := r.failure.Swap(&err)
	r.narrator.failure(*before, err)
}

// PublishOnly reports whether this replica never signs.
func (r *Rotator) PublishOnly() bool { return r.cfg.PublishOnly }

// View returns what this replica knows of the ring.
func (r *Rotator) View() *View { return r.view.Load() }

// A StaleError is the reason why a replica refuses to sign: another key may
// have become active without its knowledge.
type StaleError struct{ Age, Limit time.Duration }

func (e *StaleError) Error() string {
	return fmt.Sprintf("the ring was last read %v ago; after %v (publish-ahead) another key may be active",
		e.Age.Round(time.Millisecond), e.Limit)
}

// Hint returns what to do about it.
func (e *StaleError) Hint() string {
	return "make the store reachable again; the log has the reason why it cannot be read"
}

// Signer returns the key that signs at now. It returns a [*StaleError] if the
// ring was last read longer than PublishAhead ago, and a [*ClockError] if the key
// depends on a clock that is not confirmed.
func (r *Rotator) Signer(now time.Time) (Signer, error) {
	if r.cfg.PublishOnly {
		return Signer{}, errors.New("this replica publishes and does not sign")
	}
	age := r.ReadAge(now) // before the view: see the field read
	v := r.View()
	if limit := time.Duration(v.ring.Policy.PublishAhead); age > limit {
		return Signer{}, &StaleError{age, limit}
	}
	clock := r.clock.current.Load()
	return v.signer(func(ring *Ring) (time.Time, error) { return clock.signsAt(ring, now) })
}

// At returns the time whose phases of the keys in the view count here. See
// [Ring.At]; a clock that is not confirmed starts no phase.
func (r *Rotator) At(now time.Time) time.Time { return r.clock.at(r.View().ring, now) }

// CheckClock returns a [*ClockError] if the clock of this replica is not confirmed.
func (r *Rotator) CheckClock(now time.Time) error {
	return r.clock.current.Load().check(now, time.Duration(r.View().ring.Policy.ClockSkew))
}

// ReadAge returns how long ago the ring was last read. The monotonic clock does
// not advance while a machine sleeps, and the wall clock may be set: the larger
// difference counts.
func (r *Rotator) ReadAge(now time.Time) time.Duration {
	read := *r.read.Load()
	return max(now.Sub(read), now.Round(0).Sub(read.Round(0)), 0)
}

// Ready returns the reason why clients should not use this replica, or nil if
// they can. A ready replica can sign, unless it only publishes. Its publishers
// have confirmed what it knows, and that is fresh enough for a relying party
// to cache the key set for max-age.
func (r *Rotator) Ready(now time.Time) error {
	age := r.ReadAge(now)
	if !r.cfg.PublishOnly {
		if _, err := r.Signer(now); err != nil {
			return err
		}
	}
	if limit := r.View().ring.Policy.Freshness(); age > limit {
		return hint.Errorf("make the store reachable again",
			"the ring was last read %v ago; after %v (half of publish-ahead) the published key set may lack the next key",
			age.Round(time.Second), limit)
	}
	if r.unpublished.Load() {
		return hint.Errorf("the log has the reason why it cannot be published", "the published key set is not the newest")
	}
	return nil
}

// Failure returns the error of the last tick, or nil if it succeeded.
func (r *Rotator) Failure() error { return *r.failure.Load() }

// Failed returns the number of ticks that failed.
func (r *Rotator) Failed() uint64 { return r.failed.Load() }
