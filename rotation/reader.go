package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"oidc-provider/internal/hint"
)

// A reader reads the ring and refuses everything that cannot be it: unreadable
// data, the ring of another issuer, and an old backup. It also opens the
// private keys. It belongs to one goroutine.
type reader struct {
	store       Store
	issuer      string
	sealer      Sealer
	publishOnly bool

	// version is the version of the document that was read last. mustRead says
	// that this replica has replaced that document, and must read the ring
	// again to learn its version.
	version  Version
	mustRead bool

	seen     []Seen // the ring must have come after all of it
	truster  truster
	rollback rollbackState

	// The version whose private keys could not be opened, and when to try again.
	openVersion Version
	openRetry   retry
}

// newReader returns a reader that knows what the rollback state holds.
func newReader(ctx context.Context, cfg Config) (reader, error) {
	r := reader{
		store: cfg.Store, issuer: cfg.Issuer, sealer: cfg.Sealer, publishOnly: cfg.PublishOnly,
		seen: cfg.Seen, rollback: rollbackState{store: cfg.RollbackState}, truster: newTruster(cfg.Access),
	}
	seen, err := r.rollback.read(ctx)
	if seen != nil {
		r.seen = append(r.seen[:len(r.seen):len(r.seen)], *seen)
		r.truster.learn(*seen)
	}
	r.truster.learns = cfg.PublishOnly && cfg.RollbackState != nil
	return r, err
}

// read returns the ring in the store: known itself if it has not changed.
func (r *reader) read(ctx context.Context, known *Ring) (*Ring, error) {
	data, version, err := r.store.Load(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the ring: %w", err)
	case version == "" && known != nil:
		return nil, &RefusedError{hint.Errorf("restore it from a backup; this process continues with the ring that it knows",
			"reading the ring: it has disappeared from the store")}
	case version == "":
		return nil, ErrEmpty
	case known != nil && version == r.version && !r.mustRead:
		return known, nil
	}
	ring, err := Decode(data)
	if err != nil {
		return nil, err
	}
	if err := ring.CheckIssuer(r.issuer); err != nil {
		return nil, err
	}
	if err := r.truster.check(ctx, ring); err != nil {
		return nil, err
	}
	if err := r.checkFollows(ring, known); err != nil {
		return nil, err
	}
	r.truster.learn(ring.Seen())
	for _, s := range r.seen {
		ring.strike(s.Struck)
	}
	if known != nil {
		ring.inherit(known)
	}
	if r.publishOnly {
		ring = ring.withoutPrivate()
	}
	r.version, r.mustRead = version, false
	return ring, nil
}

// checkFollows refuses a ring that cannot have come after known, nor after what
// witnesses and the rollback state have seen.
func (r *reader) checkFollows(ring, known *Ring) error {
	seen := r.seen
	if known != nil {
		own := known.Seen()
		own.By = "this process"
		seen = append(seen[:len(seen):len(seen)], own)
	}
	for _, s := range seen {
		if err := ring.CheckAgainst(s); err != nil {
			return err
		}
	}
	return nil
}

// CheckIssuer refuses a ring that belongs to another issuer.
func (r *Ring) CheckIssuer(issuer string) error {
	if r.Issuer != issuer {
		return &RefusedError{hint.Errorf(fmt.Sprintf("set {issuer} to %s, or {store} to another store", r.Issuer),
			"the ring belongs to issuer %q, not %q", r.Issuer, issuer)}
	}
	return nil
}

// open opens the private keys of ring, as many as it can. Failures are retried
// after a delay that grows; until then it returns ring itself and the error.
func (r *reader) open(ctx context.Context, ring *Ring, now time.Time) (*Ring, error) {
	if !ring.closed() {
		return ring, nil
	}
	if r.openVersion == r.version && r.openRetry.waits(now) {
		return ring, r.openRetry.err
	}
	open, err := ring.Unseal(ctx, r.sealer)
	r.openVersion = r.version
	r.openRetry.done(err, now)
	return open, err
}

// A retry is the failure of something that is tried again, and when.
type retry struct {
	err   error // nil if the next attempt need not wait
	at    time.Time
	after time.Duration // grows from failure to failure
}

// maxRetryAfter is the longest delay between two attempts.
const maxRetryAfter = 30 * time.Second

// done notes how an attempt ended.
func (t *retry) done(err error, now time.Time) {
	if err == nil || errors.Is(err, ErrConflict) {
		*t = retry{}
		return
	}
	t.err = err
	t.after = min(max(2*t.after, defaultPoll), maxRetryAfter)
	t.at = now.Add(t.after)
}

// soon lets the next attempt start at once. If it fails, the delay still grows.
func (t *retry) soon() { t.err = nil }

// waits reports whether it is too early for the next attempt. A clock that was
// set back does not extend the delay.
func (t *retry) waits(now time.Time) bool {
	wait := t.at.Sub(now)
	return t.err != nil && wait > 0 && wait <= t.after
}
