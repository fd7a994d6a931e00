// Package mirror publishes third-party public keys: those of an issuer whose
// private keys this program does not have. That is a kube-apiserver that signs
// with its own key file, or any issuer that its relying parties cannot reach.
//
// A [Mirror] fetches the key set from a [Source] again and again. While the source
// is unavailable, the mirror publishes the last good key set: a key disappears
// only if the source returns a key set without it. It keeps that key set in a
// file, so that a restart during an outage loses nothing. And it records which key
// each kid has named, so that an attacker who controls the source cannot replace a
// key that relying parties trust.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// A Source returns third-party keys. One goroutine at a time calls it.
type Source interface {
	// Fetch returns the whole present key set, in a stable order and no kid
	// twice. Entries of the key set that are not returned are in skipped, each
	// with the reason. Neither side modifies keys afterwards. A source that could
	// read only a part of its keys may return keys with an error: see [partialError].
	Fetch(ctx context.Context) (keys []jwks.PublicKey, skipped []error, err error)
	// String names the source for logs.
	String() string
}

// A partialError is the error of a source that also returns keys: those that it could
// read, and those that it knew before of what it could not read. If it is incomplete,
// the source did not know all of the latter, so that no key may be removed.
type partialError struct {
	error
	incomplete bool
}

func (e *partialError) Unwrap() error { return e.error }

// Config is what a [Mirror] needs. Issuer, Source and Log are required.
type Config struct {
	// Issuer is the issuer of the keys, byte for byte. The State of another
	// issuer is refused.
	Issuer string

	// Source of the keys.
	Source Source

	// Interval between two fetches, default 30s. The actual time varies by a
	// tenth, so that many mirrors spread out. For [Files] it is at least half a
	// millisecond for each mirror of files that runs, so that thousands do not
	// keep a processor busy. A key must be in the source for longer than this
	// before it signs.
	Interval time.Duration

	// State is the path of the file that keeps the last good key set across
	// restarts. Its directory is created if necessary. Empty: none is kept, and
	// the record of which key each kid names ends with the process.
	State string

	// ReadOnly never writes State, for a program that only reads.
	ReadOnly bool

	// Predecessor is what is published for the issuer already, by the previous
	// configuration. Nil: nothing is. Otherwise the mirror publishes nothing
	// until Source has answered, and takes only the record of kids from State.
	Predecessor *Predecessor

	// Publish makes keys public. It is called again after an error. Nil: only
	// callers of [Mirror.Keys] get them.
	Publish func(keys []jwks.PublicKey) error

	// Log gets an event for every key that is added or removed. Failures are
	// logged when they begin, change and end.
	Log *slog.Logger
}

// A Predecessor is what a new mirror replaces.
type Predecessor struct {
	// Mirror that publishes the keys until then. The record of which key each kid
	// has named there applies here too. Nil if something else publishes them.
	Mirror *Mirror
}

const defaultInterval = 30 * time.Second

// Bounds of what a mirror accepts from a source.
const (
	maxKeys  = 1000 // a hundred is more than AWS STS reads
	maxKeyID = 1024 // bytes, as in Kubernetes' ExternalJWTSigner API
)

// Status describes a mirror at one instant.
type Status struct {
	// Keys is how many are published.
	Keys int
	// Fetched is when the source answered last, perhaps before this start. Zero:
	// never.
	Fetched time.Time
	// Changed is when the key set changed last.
	Changed time.Time
	// FromState reports that the published keys come from State and that the
	// source has not confirmed them since the start.
	FromState bool
	// Failure is what fails, with its hint; nil if nothing does. Its text is
	// bounded, and equal texts are the same failure. If Fetched changes
	// nevertheless, the failure is about State or publishing.
	Failure error
	// FailingSince is when the failure began, zero if nothing fails.
	FailingSince time.Time
	// Failures counts the fetches after which something failed.
	Failures uint64
	// Changes counts the changes of the key set since the start, and Returned the
	// keys that came back within an hour after they had disappeared. Alternating
	// reports that this happens again and again.
	Changes, Returned uint64
	Alternating       bool
	// Skipped says what the source has that is not published, and why. It is
	// bounded.
	Skipped []string
}

// A Mirror keeps the key set of one issuer published. Its methods may be called by
// many goroutines.
type Mirror struct {
	cfg  Config
	view atomic.Pointer[view]

	mu sync.Mutex // held by the goroutine that refreshes; guards all below
	// keys are the last good ones, which are published unless that failed.
	keys []jwks.PublicKey
	seen record
	// predecessor may still publish and write its state; nil once its record has
	// been taken over.
	predecessor *Mirror
	// hanging gets the answer of a fetch that did not return in time.
	hanging <-chan answer
	returns returns
	state   state
}

// A view is what others see: immutable.
type view struct {
	Status
	keys []jwks.PublicKey
	seen record // for a successor
}

// New returns a mirror that has published the key set in State, if there is a good
// one and no Predecessor. It sends nothing.
func New(cfg Config) *Mirror {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	m := &Mirror{cfg: cfg, state: state{path: cfg.State}}
	if cfg.Predecessor != nil {
		m.predecessor = cfg.Predecessor.Mirror
	}
	v := new(view)
	if err := m.load(v, cfg.Predecessor == nil); err != nil {
		m.report(v, err)
	}
	m.view.Store(v)
	m.cfg.Predecessor = nil // a chain of mirrors would stay in memory
	return m
}

// Refresh fetches once, publishes what has changed, and returns what fails after
// that. A fetch that fails or is refused changes nothing.
func (m *Mirror) Refresh(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := *m.view.Load()
	a := m.fetch(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	err := a.err
	if partial := new(partialError); errors.As(err, &partial) && len(a.keys) > 0 {
		if partial.incomplete {
			a.keys = withMissing(a.keys, m.keys)
		}
		err = errors.Join(err, m.accept(&v, a))
	} else if err == nil {
		err = m.accept(&v, a)
	}
	// Publish before writing the state: a disk may hang, and keys that cannot be
	// kept are good ones.
	confirmed := err == nil
	err = errors.Join(err, m.publish(&v))
	if ctx.Err() == nil { // else a successor may be writing the state
		err = errors.Join(err, m.save(ctx, &v, confirmed))
	}
	if m.keys != nil {
		m.predecessor = nil
	}
	m.report(&v, err)
	m.view.Store(&v)
	return err
}

// Status returns the present status.
func (m *Mirror) Status() Status { return m.view.Load().Status }

// Keys returns what is published now, nil if nothing is. Callers must not modify
// it.
func (m *Mirror) Keys() []jwks.PublicKey { return m.view.Load().keys }

// accept makes an answer of the source the key set, or returns why not.
func (m *Mirror) accept(v *view, a answer) error {
	keys, skipped := a.keys, a.skipped
	if long := func(k jwks.PublicKey) bool { return len(k.KeyID()) > maxKeyID }; slices.ContainsFunc(keys, long) {
		skipped = append(skipped, fmt.Errorf("kids of more than %d bytes", maxKeyID))
		keys = slices.DeleteFunc(slices.Clone(keys), long)
	}
	m.reportSkipped(v, skipped)
	switch {
	case len(keys) == 0 && len(skipped) > 0:
		return m.fetching(fmt.Errorf("no key can be published: %w", skipped[0]))
	case len(keys) == 0:
		return m.fetching(errors.New("it has no keys"))
	case len(keys) > maxKeys:
		return m.fetching(fmt.Errorf("it has %d keys, and at most %d can be published", len(keys), maxKeys))
	}
	now := time.Now()
	if m.predecessor != nil && m.keys == nil { // it was publishing until now
		m.seen = m.seen.and(m.predecessor.view.Load().seen)
	}
	if !slices.EqualFunc(keys, m.keys, same) {
		if err := m.seen.check(keys); err != nil {
			return hint.Wrap(m.fetching(err), "none of its keys is published, since an attacker may want tokens "+
				"to be accepted; if the change is intended, "+m.howToForget())
		}
		m.cfg.Log.Info("the key set has changed",
			m.attrs("added", missing(keys, m.keys), "removed", missing(m.keys, keys))...)
		v.Returned += uint64(m.returns.note(m.keys, keys, now))
		v.Changes++
		m.keys, m.seen = keys, m.seen.with(keys)
		m.state.stale = true
		v.Changed = now
	}
	m.reportAlternating(v, now)
	v.Fetched, v.FromState = now, false
	return nil
}

// howToForget returns what makes a mirror forget which key a kid named.
func (m *Mirror) howToForget() string {
	if m.cfg.State == "" {
		return "restart this process"
	}
	return fmt.Sprintf("remove %s and restart this process", m.cfg.State)
}

// publish publishes the last good keys, unless they are published already.
func (m *Mirror) publish(v *view) error {
	if len(m.keys) == 0 || len(v.keys) > 0 && &v.keys[0] == &m.keys[0] {
		return nil
	}
	if m.cfg.Publish != nil {
		if err := m.cfg.Publish(m.keys); err != nil {
			return fmt.Errorf("publishing the keys: %w", err)
		}
	}
	v.keys, v.Keys, v.seen = m.keys, len(m.keys), m.seen
	published := *v // the caller still changes v
	m.view.Store(&published)
	return nil
}

// withMissing returns keys and those of others whose kids they do not have.
func withMissing(keys, others []jwks.PublicKey) []jwks.PublicKey {
	all := slices.Clone(keys)
	for _, k := range others {
		if !slices.ContainsFunc(keys, func(other jwks.PublicKey) bool { return other.KeyID() == k.KeyID() }) {
			all = append(all, k)
		}
	}
	return all
}

// missing returns the kids of keys that others do not have.
func missing(keys, others []jwks.PublicKey) []string {
	have := make(map[string]bool, len(others))
	for _, k := range others {
		have[k.KeyID()] = true
	}
	kids := []string{}
	for _, k := range keys {
		if !have[k.KeyID()] {
			kids = append(kids, k.KeyID())
		}
	}
	return kids
}
