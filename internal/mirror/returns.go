package mirror

import (
	"errors"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// Keys that come back within returnWindow after they disappeared, in at least
// alternating changes within that time, mean that the source is several servers with
// different keys. One change may be a mistake that was undone.
const (
	returnWindow = time.Hour
	alternating  = 2
)

// ErrAlternating is the probable reason why keys come and go.
var ErrAlternating = hint.Wrap(errors.New("several servers with different keys seem to be behind one address"),
	"give each API server the public keys of all: --service-account-key-file can be repeated")

// returns is what a mirror remembers of keys that disappear and come back. It belongs
// to the goroutine that refreshes.
type returns struct {
	gone    map[string]time.Time // when the key with a kid disappeared
	changes []time.Time          // when keys came back
}

// note records a change of the key set, and returns how many keys came back with it.
func (r *returns) note(before, after []jwks.PublicKey, now time.Time) (back int) {
	if r.gone == nil {
		r.gone = make(map[string]time.Time)
	}
	for kid, since := range r.gone {
		if now.Sub(since) > returnWindow {
			delete(r.gone, kid)
		}
	}
	for _, kid := range missing(after, before) {
		if _, there := r.gone[kid]; there {
			delete(r.gone, kid)
			back++
		}
	}
	for _, kid := range missing(before, after) {
		if len(r.gone) < maxSeen {
			r.gone[kid] = now
		}
	}
	if back > 0 {
		r.changes = append(r.changes, now)
	}
	return back
}

// alternate reports whether keys come and go at now.
func (r *returns) alternate(now time.Time) bool {
	for len(r.changes) > 0 && now.Sub(r.changes[0]) > returnWindow {
		r.changes = r.changes[1:]
	}
	return len(r.changes) >= alternating
}

// reportAlternating says in v and in the log when the key set begins to change back
// and forth, and when that is over.
func (m *Mirror) reportAlternating(v *view, now time.Time) {
	alternate := m.returns.alternate(now)
	switch {
	case alternate && !v.Alternating:
		m.cfg.Log.Warn("the key set changes back and forth: tokens are rejected while their key is missing",
			m.attrs("returned", v.Returned, "err", ErrAlternating)...)
	case !alternate && v.Alternating:
		m.cfg.Log.Info("the key set of the source does not change back and forth any more", m.attrs()...)
	}
	v.Alternating = alternate
}
