package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// A Publisher is a place that shows the key set to relying parties.
type Publisher interface {
	// Publish shows what v holds, and returns nil once everybody who asks
	// from now on gets it. It is called again after an error, and need not
	// be for a view that it has confirmed.
	Publish(ctx context.Context, v *View) error
}

// Config is what a [Rotator] needs. Store, Issuer and Log must be set.
type Config struct {
	Store Store

	// Issuer whose ring this is. A ring of another one is refused.
	Issuer string

	// Sealer opens the private keys of a ring that is sealed, and seals new
	// ones. Without one such a ring cannot be signed with.
	Sealer Sealer

	// PublishOnly makes this a replica that shows the key set and neither
	// signs nor writes: it needs no Sealer.
	PublishOnly bool

	// Seen is what others have seen of the ring, to tell an old backup by.
	Seen []Seen

	// RollbackState, if set, keeps what this replica has seen of the ring for its
	// next start: a store of its own, best in another place than the ring's.
	RollbackState Store

	// Publishers must all confirm a key before its hand-over is planned.
	// With none, reading the ring is confirmation.
	Publishers []Publisher

	// Poll is how often the ring is read. Default 500ms: a change made
	// elsewhere is then noticed within a second. For a store that is a
	// [Watcher] it is a twentieth of the ring's PublishAhead, at most 2s: the
	// watch brings the changes, unless nobody has noticed yet that it is dead.
	// While reads fail they are repeated every 500ms.
	Poll time.Duration

	// Timeout bounds the reading, writing and publishing of one tick.
	// Default 30s.
	Timeout time.Duration

	// Generate makes new keys. Default [GenerateKey].
	Generate Generate

	// Log gets an event for everything that happens to a key. Failures are
	// logged when they begin, change and end.
	Log *slog.Logger
}

// A Rotator keeps the ring of one issuer going, beside any number of others on
// the same store. Its methods may be called by many goroutines.
type Rotator struct {
	cfg Config

	view atomic.Pointer[View]
	// read is when view was last known to be the newest. It is set after
	// view, so that it never speaks for a newer one than can be seen.
	read    atomic.Pointer[time.Time]
	failure atomic.Pointer[string]
	failed  atomic.Uint64
	// published says that every place shows the view.
	published atomic.Bool

	// The fields below belong to the goroutine that ticks.
	version   Version
	seen      []Seen
	shown     *Ring  // what all publishers have confirmed
	confirmed string // kid of the last standby in shown
	keys      int    // how many the key set held

	remembered Version // of RollbackState
	memory     int64   // the generation that is in it

	logged  *Ring  // the ring that logChanges has told of last
	active  string // the kid that signed then
	waiting string // what a hand-over waited for then

	started time.Time
	jump    jumpGuard

	// What failed last of writing, and of opening the keys of triedVersion.
	writeErr, openErr     error
	writeRetry, openRetry retry
	triedVersion          Version
}

// Open reads the ring and publishes it: the first tick of [Rotator.Run]. A
// store that cannot be read, or holds nothing, is an error.
func Open(ctx context.Context, cfg Config) (*Rotator, error) {
	r, again, err := open(ctx, cfg, time.Now())
	if err == nil && again {
		// What has just been published can be confirmed now.
		_, err := r.tick(ctx, time.Now())
		r.report(err)
	}
	return r, err
}

func open(ctx context.Context, cfg Config, now time.Time) (r *Rotator, again bool, err error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Generate == nil {
		cfg.Generate = GenerateKey
	}
	r = &Rotator{cfg: cfg, started: now, jump: jumpGuard{since: -1}, seen: cfg.Seen}
	r.failure.Store(new(string))
	if err := r.recall(ctx); err != nil {
		return nil, false, err
	}
	again, err = r.tick(ctx, now)
	if r.view.Load() == nil {
		return nil, false, err
	}
	r.report(err)
	return r, again, nil
}

// Run keeps the ring going until ctx is done.
func (r *Rotator) Run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	if w, watches := r.cfg.Store.(Watcher); watches {
		go w.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default: // the next tick has yet to begin, and will see it
			}
		})
	}
	for ctx.Err() == nil {
		now := time.Now()
		again, err := r.tick(ctx, now)
		if ctx.Err() != nil {
			return
		}
		r.report(err)
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

// againAfter keeps a store whose answers contradict each other from making the
// loop a hot one.
const againAfter = 5 * time.Millisecond

// wait is the time from here to the next poll, or to the next instant of the
// ring after ticked, when the last tick began and failed with err or not: what
// fell into the tick itself is due now.
func (r *Rotator) wait(ticked time.Time, err error) time.Duration {
	ring := r.view.Load().ring
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

// Bounds of the time between two reads, unless [Config.Poll] sets another.
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

// tick reads the ring, does what is due, and then publishes: first commit,
// then publish. It says whether there is more to do at once.
func (r *Rotator) tick(ctx context.Context, now time.Time) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	ring, err := r.load(ctx)
	if err != nil {
		if known := r.view.Load(); known != nil { // it goes on
			r.logChanges(known.ring, now)
			err = errors.Join(err, r.publish(ctx, now))
		}
		return false, err
	}
	r.adopt(&View{ring: ring}, now)
	if ring.closed() && !r.cfg.PublishOnly {
		// What is to be shown, and to be signed with no more, does not wait
		// until private keys are open. An error comes again below.
		_ = r.publish(ctx, now)
		ring, err = r.open(ctx, ring, now)
		r.adopt(&View{ring: ring}, now)
	}
	r.logChanges(ring, now)

	if !r.cfg.PublishOnly {
		advanceErr := r.advance(ctx, ring, now)
		if errors.Is(advanceErr, ErrConflict) {
			again, advanceErr = true, nil
		}
		err = errors.Join(err, advanceErr)
	}
	err = errors.Join(err, r.publish(ctx, now), r.remember(ctx, r.view.Load().ring))
	return again || err == nil && r.canConfirm(now), err
}

// open makes ring one to sign with, as far as its private keys can be opened.
// Those that cannot are tried again, after a longer time each time.
func (r *Rotator) open(ctx context.Context, ring *Ring, now time.Time) (*Ring, error) {
	if r.openErr != nil && r.triedVersion == r.version && r.openRetry.waits(now) {
		return ring, r.openErr
	}
	open, err := ring.Unseal(ctx, r.cfg.Sealer)
	r.openErr, r.triedVersion = err, r.version
	if err == nil {
		r.openRetry = retry{}
	} else {
		r.openRetry.failed(now)
	}
	return open, err
}

// A retry is when to try again what has failed.
type retry struct {
	at    time.Time
	after time.Duration
}

func (t *retry) failed(now time.Time) {
	t.after = min(max(2*t.after, defaultPoll), maxRetryAfter)
	t.at = now.Add(t.after)
}

// waits reports whether it is too early. A clock that was set back does not
// make it wait for longer than it should have.
func (t *retry) waits(now time.Time) bool {
	wait := t.at.Sub(now)
	return wait > 0 && wait <= t.after
}

// advance does what is due. After a write that failed it waits before it makes
// new keys for the next, longer each time; reading goes on meanwhile.
func (r *Rotator) advance(ctx context.Context, ring *Ring, now time.Time) error {
	wall, monotonic := now.Round(0).Sub(r.started.Round(0)), now.Sub(r.started)
	if err := r.jump.check(wall, monotonic, time.Duration(ring.Policy.ClockSkew)); err != nil {
		return err
	}
	if r.writeErr != nil && r.writeRetry.waits(now) {
		return r.writeErr
	}
	next, events, err := Advance(ring, now, r.confirmed, r.cfg.Generate)
	switch {
	case err != nil:
		return fmt.Errorf("planning the ring: %w", err)
	case next != ring:
		err = r.write(ctx, next, events, now)
	}
	if r.writeErr = err; err == nil || errors.Is(err, ErrConflict) {
		r.writeErr, r.writeRetry = nil, retry{}
		return err
	}
	r.writeRetry.failed(now)
	return err
}

const maxRetryAfter = 30 * time.Second

// load reads the ring, or returns the one that is known if it has not changed.
func (r *Rotator) load(ctx context.Context) (*Ring, error) {
	data, version, err := r.cfg.Store.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the ring: %w", err)
	}
	known := r.view.Load()
	if known != nil && version == r.version && version != "" {
		return known.ring, nil
	}
	if version == "" {
		if known != nil {
			return nil, errors.New("reading the ring: it is gone from the store (hint: put it back from a backup; this process goes on with what it knows)")
		}
		return nil, ErrEmpty
	}
	ring, err := Decode(data)
	if err != nil {
		return nil, err
	}
	if err := ring.CheckIssuer(r.cfg.Issuer); err != nil {
		return nil, err
	}
	seen := r.seen
	if known != nil {
		now := known.ring.Seen()
		now.By = "this process"
		seen = append(seen[:len(seen):len(seen)], now)
		ring.inherit(known.ring)
	}
	for _, s := range seen {
		if err := ring.CheckAgainst(s); err != nil {
			return nil, err
		}
	}
	if r.cfg.PublishOnly {
		ring = ring.withoutPrivate()
	}
	r.version = version
	// The answer that was lost may have been a good one.
	r.writeErr = nil
	return ring, nil
}

// CheckIssuer refuses a ring that belongs to another issuer.
func (r *Ring) CheckIssuer(issuer string) error {
	if r.Issuer != issuer {
		return fmt.Errorf("the ring belongs to issuer %q, not %q (hint: use --issuer %s, or another --store)", r.Issuer, issuer, r.Issuer)
	}
	return nil
}

// adopt makes v what everybody sees, known to be true at now. An unchanged
// ring keeps its view.
func (r *Rotator) adopt(v *View, now time.Time) {
	known := r.view.Load()
	if known == nil || known.ring != v.ring || known.pending != v.pending {
		r.view.Store(v)
	}
	r.read.Store(&now)
}

// write tries to make next the ring. After any error but ErrConflict next may
// be the ring or not.
func (r *Rotator) write(ctx context.Context, next *Ring, events []Event, now time.Time) error {
	next, data, err := seal(ctx, next, r.cfg.Sealer)
	if err != nil {
		return err
	}
	if err := r.checkOpens(ctx, next); err != nil {
		return err
	}
	switch err = r.cfg.Store.Swap(ctx, data, r.version); {
	case errors.Is(err, ErrConflict):
		return err
	case err != nil:
		r.adopt(&View{ring: r.view.Load().ring, pending: next}, now)
		return fmt.Errorf("writing the ring: %w", err)
	}
	// The version of what was written is learnt by the next read.
	r.version = ""
	r.adopt(&View{ring: next}, now)
	for _, e := range events {
		r.log(e)
	}
	r.logged = next
	return nil
}

// checkOpens makes sure that this replica can open the keys that it has sealed:
// if it cannot, others may not either, and nobody could sign with them.
func (r *Rotator) checkOpens(ctx context.Context, next *Ring) error {
	known := r.view.Load().ring
	closed := next.clone()
	for i := range closed.Keys {
		if k := &closed.Keys[i]; known.find(k.KeyID) == nil {
			k.opened = false
		}
	}
	if _, err := closed.Unseal(ctx, r.cfg.Sealer); err != nil {
		return fmt.Errorf("a new key was not written, since it could not be opened again: %w", err)
	}
	return nil
}

func (r *Rotator) log(e Event) {
	attrs := []any{"kid", e.KeyID}
	if !e.At.IsZero() {
		attrs = append(attrs, "at", e.At)
	}
	r.cfg.Log.Info(e.Msg, attrs...)
}

// publish shows the current view in every place, unless all have it already.
func (r *Rotator) publish(ctx context.Context, now time.Time) error {
	v := r.view.Load()
	if r.shown == v.ring {
		return nil
	}
	var errs []error
	for _, p := range r.cfg.Publishers {
		if err := p.Publish(ctx, v); err != nil {
			errs = append(errs, fmt.Errorf("publishing the key set: %w", err))
		}
	}
	r.published.Store(len(errs) == 0)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	r.shown = v.ring
	// A key that does not open here may not open anywhere.
	if standby := v.ring.Standby(v.ring.At(now)); standby != nil && standby.signing != nil {
		r.confirmed = standby.KeyID
	}
	r.warnOfManyKeys(len(v.KeySet()))
	return nil
}

// canConfirm reports whether the next tick will confirm the standby. This one
// must not: its time is that of before the publication.
func (r *Rotator) canConfirm(now time.Time) bool {
	ring := r.view.Load().ring
	standby := ring.Standby(ring.At(now))
	return standby != nil && standby.ConfirmedAt.IsZero() && standby.KeyID == r.confirmed
}

func (r *Rotator) warnOfManyKeys(n int) {
	if n == r.keys {
		return
	}
	r.keys = n
	switch {
	case n > TooManyKeys:
		r.cfg.Log.Error("far too many keys are published: AWS STS fails above 100, others read no more than 32 KiB", "keys", n)
	case n > ManyKeys:
		r.cfg.Log.Warn("many keys are published: rotate less often, or shorten the token lifetime", "keys", n)
	}
}

// report logs a failure of the loop when it begins, changes or ends.
func (r *Rotator) report(err error) {
	var msg string
	if err != nil {
		msg = err.Error()
		r.failed.Add(1)
	}
	if before := *r.failure.Swap(&msg); before != msg {
		if err != nil {
			r.cfg.Log.Error("rotation is failing; the keys that are known go on", "err", err)
		} else {
			r.cfg.Log.Info("rotation works again")
		}
	}
}

// PublishOnly reports whether this replica never signs.
func (r *Rotator) PublishOnly() bool { return r.cfg.PublishOnly }

// View is what this replica knows.
func (r *Rotator) View() *View { return r.view.Load() }

// A StaleError is why a replica refuses to sign: a hand-over may have happened
// without it.
type StaleError struct{ Age, Limit time.Duration }

func (e *StaleError) Error() string {
	return fmt.Sprintf("the ring was last read %v ago, and after %v (publish-ahead) another key may be signing (hint: mend the store; the log says why it cannot be read)",
		e.Age.Round(time.Millisecond), e.Limit)
}

// Signer picks the key that signs at now. A replica whose knowledge is older
// than PublishAhead gets a [*StaleError].
func (r *Rotator) Signer(now time.Time) (Signer, error) {
	if r.cfg.PublishOnly {
		return Signer{}, errors.New("this replica publishes and does not sign")
	}
	age := r.ReadAge(now) // before the view: see the field read
	v := r.view.Load()
	if limit := time.Duration(v.ring.Policy.PublishAhead); age > limit {
		return Signer{}, &StaleError{age, limit}
	}
	return v.Signer(now)
}

// ReadAge is how long ago the ring was last read. The monotonic clock stands
// still while a machine sleeps and the wall clock may be set: the larger
// difference counts.
func (r *Rotator) ReadAge(now time.Time) time.Duration {
	read := *r.read.Load()
	return max(now.Sub(read), now.Round(0).Sub(read.Round(0)), 0)
}

// Ready reports why this replica should not be asked, nil if it should: it
// signs if it is there for that, its places show what it knows, and what it knows is fresh enough that
// whoever fetches the key set from it can keep it for max-age.
func (r *Rotator) Ready(now time.Time) error {
	age := r.ReadAge(now)
	if !r.cfg.PublishOnly {
		if _, err := r.Signer(now); err != nil {
			return err
		}
	}
	if limit := r.View().ring.Policy.Freshness(); age > limit {
		return fmt.Errorf("the ring was last read %v ago: after %v (half of publish-ahead) this replica may show a key set without the key that signs next (hint: mend the store)", age.Round(time.Second), limit)
	}
	if !r.published.Load() {
		return errors.New("the key set that is shown is not the newest (hint: the log says why it cannot be published)")
	}
	return nil
}

// Failure is what is wrong with the loop at the moment, empty if nothing is.
func (r *Rotator) Failure() string { return *r.failure.Load() }

// Failed counts the ticks that failed.
func (r *Rotator) Failed() uint64 { return r.failed.Load() }
