// Package mirror publishes the public keys of an issuer whose private keys
// belong to somebody else: a kube-apiserver that signs with its own key file,
// or any issuer that cannot be reached from where its tokens are verified.
//
// A [Mirror] fetches the key set from a [Source] now and then, and shows the
// last good one for as long as the source is away: nothing that a source does
// takes away keys but a key set without them. It keeps that key set in a file,
// so that a restart during an outage loses nothing. And it remembers which key
// a kid has named, so that whoever gets hold of the source cannot put a key of
// his own in the place of one that relying parties trust.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"oidc-provider/jwks"
)

// A Source is where somebody else's keys come from. It is asked by one
// goroutine at a time.
type Source interface {
	// Fetch returns the whole key set as it is now, in a stable order and no
	// kid twice, and what of it was passed over and why. Nobody changes keys
	// afterwards.
	Fetch(ctx context.Context) (keys []jwks.PublicKey, skipped []error, err error)
	// String names the source for logs.
	String() string
}

// Config is what a [Mirror] needs. Issuer, Source and Log must be set.
type Config struct {
	// Issuer whose keys these are, byte for byte. The State of another one is
	// refused.
	Issuer string

	// Source of the keys.
	Source Source

	// Interval between two fetches, default 30s. The actual time varies by a
	// tenth, so that many mirrors spread out; of [Files] it is at least half
	// a millisecond for each mirror of files that runs, so that thousands do
	// not keep a processor busy. A key must stand in the source for longer
	// than this before it signs.
	Interval time.Duration

	// State is the path of the file that keeps the last good key set across
	// restarts; its directory is made if need be. Empty: none is kept, and
	// which key a kid names is forgotten at the end of the process.
	State string

	// ReadOnly never writes State, for a program that looks on.
	ReadOnly bool

	// Quiet publishes nothing before Source has been heard, since something
	// else is shown until then. Of State it takes no more than which key a
	// kid has named.
	Quiet bool

	// After is the mirror that this one takes the place of, if there is one:
	// which key a kid has named there counts here too.
	After *Mirror

	// Publish shows keys to the world. It is called again after an error. Nil
	// shows them to nobody but the callers of [Mirror.Keys].
	Publish func(keys []jwks.PublicKey) error

	// Log gets an event for every key that comes or goes. Failures are logged
	// when they begin, change and end.
	Log *slog.Logger
}

const defaultInterval = 30 * time.Second

// Bounds of what a mirror takes from a source.
const (
	maxKeys  = 1000 // a hundred is more than AWS STS reads
	maxKeyID = 1024 // bytes, as in Kubernetes' ExternalJWTSigner API
	// Status.Skipped has no more than maxReasons, and neither these nor
	// Status.Failure have more than maxText bytes: they may quote the source.
	maxReasons = 20
	maxText    = 2048
)

// Status is what a mirror knows of itself.
type Status struct {
	// Keys is how many are published.
	Keys int
	// Fetched is when the source was last heard, before this start if not
	// since. Zero: never.
	Fetched time.Time
	// Changed is when the key set last changed.
	Changed time.Time
	// Recalled says that what is shown comes from State and has not been
	// confirmed by the source since the start.
	Recalled bool
	// Failure is what is wrong, empty if nothing is. If Fetched goes on
	// nevertheless, it is about State or publishing.
	Failure string
	// FailingSince is when that began, zero if nothing is wrong.
	FailingSince time.Time
	// Failures counts the fetches after which something was wrong.
	Failures uint64
	// Skipped is what the source has that is not published, and why.
	Skipped []string
}

// A Mirror keeps one issuer's key set published. Its methods may be called by
// many goroutines.
type Mirror struct {
	cfg  Config
	view atomic.Pointer[view]

	mu sync.Mutex // held by the goroutine that refreshes; guards all below
	// keys are the last good ones, which are published unless that failed.
	keys []jwks.PublicKey
	seen record
	// stuck is the answer of a fetch that did not end in time.
	stuck <-chan answer
	state state
}

// A view is what others see: immutable.
type view struct {
	Status
	keys []jwks.PublicKey
	seen record // as far as others go by it
}

// New makes a mirror that shows what State holds, if that is good. It sends
// nothing.
func New(cfg Config) *Mirror {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	m := &Mirror{cfg: cfg, state: state{path: cfg.State}}
	v := new(view)
	if err := m.recall(v); err != nil {
		m.report(v, err)
	}
	m.view.Store(v)
	return m
}

// Run fetches now, and then every Interval until ctx is done.
func (m *Mirror) Run(ctx context.Context) {
	if _, ok := m.cfg.Source.(*Files); ok {
		ofFiles.Add(1)
		defer ofFiles.Add(-1)
	}
	for ctx.Err() == nil {
		_ = m.Refresh(ctx) // which has reported it
		select {
		case <-ctx.Done():
		case <-time.After(m.wait(time.Now())):
		}
	}
}

// grid is what the ends of waits are rounded down to: ten thousand mirrors that
// wake a few hundred at a time cost a fifth of what they do one by one.
const grid = 50 * time.Millisecond

// ofFiles counts the mirrors of files that run, which take turns of a share each.
var ofFiles atomic.Int64

const share = 500 * time.Microsecond

// wait is the time from now to the next fetch: the interval, give or take a
// tenth.
func (m *Mirror) wait(now time.Time) time.Duration {
	interval := m.cfg.Interval
	if _, ok := m.cfg.Source.(*Files); ok {
		interval = max(interval, time.Duration(ofFiles.Load())*share)
	}
	wait := interval*9/10 + rand.N(interval/5+1)
	if wait < 10*grid {
		return wait
	}
	return now.Add(wait).Truncate(grid).Sub(now.Round(0))
}

// Refresh fetches once, publishes what has changed, and returns what is wrong
// then. After a fetch that fails or is refused everything stays as it is.
func (m *Mirror) Refresh(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := *m.view.Load()
	a := m.fetch(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	err := a.err
	if err == nil {
		err = m.take(&v, a)
	}
	// Keys that cannot be kept are good ones, and a disk may hang.
	heard := err == nil
	err = errors.Join(err, m.publish(&v))
	if ctx.Err() == nil { // else another may keep the state by now
		err = errors.Join(err, m.save(ctx, &v, heard))
	}
	if m.keys != nil {
		m.cfg.After = nil
	}
	m.report(&v, err)
	m.view.Store(&v)
	return err
}

// Status is how it stands.
func (m *Mirror) Status() Status { return m.view.Load().Status }

// Keys is what is published now, nil if nothing is. Callers must not modify it.
func (m *Mirror) Keys() []jwks.PublicKey { return m.view.Load().keys }

// take makes what the source has answered the key set, or says why not.
func (m *Mirror) take(v *view, a answer) error {
	keys, skipped := a.keys, a.skipped
	if long := func(k jwks.PublicKey) bool { return len(k.KeyID()) > maxKeyID }; slices.ContainsFunc(keys, long) {
		skipped = append(skipped, fmt.Errorf("kids of more than %d bytes", maxKeyID))
		keys = slices.DeleteFunc(slices.Clone(keys), long)
	}
	m.skip(v, skipped)
	switch {
	case len(keys) == 0 && len(skipped) > 0:
		return fmt.Errorf("fetching keys from %s: there is none that could be published: %s", m.cfg.Source, v.Skipped[0])
	case len(keys) == 0:
		return fmt.Errorf("fetching keys from %s: there are none", m.cfg.Source)
	case len(keys) > maxKeys:
		return fmt.Errorf("fetching keys from %s: there are %d, and at most %d can be published", m.cfg.Source, len(keys), maxKeys)
	}
	now := time.Now()
	if m.cfg.After != nil && m.keys == nil { // it has gone on until now
		m.seen = m.seen.and(m.cfg.After.view.Load().seen)
	}
	if !slices.EqualFunc(keys, m.keys, same) {
		if err := m.seen.check(keys); err != nil {
			return fmt.Errorf("fetching keys from %s: %w (hint: nothing of it is published, since somebody may want tokens of his own to be accepted; if it is meant, %s)", m.cfg.Source, err, m.forget())
		}
		m.logChange(keys)
		m.keys, m.seen = keys, m.seen.with(keys)
		m.state.stale = true
		v.Changed = now
	}
	v.Fetched, v.Recalled = now, false
	return nil
}

// forget is how to make a mirror forget which key a kid named.
func (m *Mirror) forget() string {
	if m.cfg.State == "" {
		return "restart this process"
	}
	return fmt.Sprintf("remove %s and restart this process", m.cfg.State)
}

// skip puts the reasons into v, and logs them if they are new.
func (m *Mirror) skip(v *view, skipped []error) {
	var reasons []string
	for i, err := range skipped {
		if i == maxReasons {
			reasons = append(reasons, fmt.Sprintf("and %d more", len(skipped)-i))
			break
		}
		reasons = append(reasons, shorten(err))
	}
	if slices.Equal(reasons, v.Skipped) {
		return
	}
	v.Skipped = reasons
	if len(reasons) > 0 {
		m.cfg.Log.Warn("the source has what is not published", m.attrs("reasons", reasons)...)
	} else {
		m.cfg.Log.Info("everything that the source has is published", m.attrs()...)
	}
}

// publish shows the current keys, unless they are shown already.
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
	published := *v // which goes on changing
	m.view.Store(&published)
	return nil
}

func (m *Mirror) logChange(keys []jwks.PublicKey) {
	m.cfg.Log.Info("the key set has changed", m.attrs("added", missing(keys, m.keys), "removed", missing(m.keys, keys))...)
}

// missing are the kids of keys that others do not have.
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

// report puts err into v, and logs it when it begins, changes or ends.
func (m *Mirror) report(v *view, err error) {
	var msg string
	if err != nil {
		msg = shorten(err)
		v.Failures++
	}
	if msg == v.Failure {
		return
	}
	switch {
	case msg == "":
		v.FailingSince = time.Time{}
		m.cfg.Log.Info("mirroring works again", m.attrs()...)
	case v.Failure == "":
		v.FailingSince = time.Now()
		fallthrough
	default:
		m.cfg.Log.Error("mirroring is failing; the keys that are known stay published", m.attrs("err", msg)...)
	}
	v.Failure = msg
}

func shorten(err error) string {
	text := err.Error()
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func (m *Mirror) attrs(more ...any) []any {
	return append([]any{"issuer", m.cfg.Issuer, "source", m.cfg.Source.String()}, more...)
}
