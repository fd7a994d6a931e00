package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"oidc-provider/internal/filemode"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
	"oidc-provider/jwks"
)

const stateKind = "oidc-provider-mirror/v1"

// maxState is far more than a key set and a record can grow to.
const maxState = 16 << 20

// stateTimeout bounds how long a mirror waits for others before it writes.
const stateTimeout = time.Second

// touchEvery is how often the time of the file is set to the time of the last
// answer.
const touchEvery = time.Minute

// A state is what a mirror knows about its file.
type state struct {
	path string
	// unreadable is why the file that existed at the start is not replaced.
	unreadable error
	stale      bool // the file is not up to date
	touched    time.Time
}

// A document is the content of the file. The source may have answered after
// Fetched: at the time of the file, since recording that must be cheap.
type document struct {
	Kind    string          `json:"kind"`
	Issuer  string          `json:"issuer"`
	Fetched time.Time       `json:"fetched"`
	Changed time.Time       `json:"changed"`
	JWKS    json.RawMessage `json:"jwks"`
	Known   record          `json:"known"`

	keys []jwks.PublicKey // in the order of JWKS
}

// load reads the file, if it exists, and publishes the key set in it if publish is
// set.
func (m *Mirror) load(v *view, publish bool) error {
	if m.state.path == "" {
		return nil
	}
	doc, err := readState(m.state.path, m.cfg.Issuer)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		m.state.unreadable = hint.Wrap(err, "it is not replaced, and no state is kept meanwhile: "+
			"move it away, or repair it and restart")
		return m.state.unreadable
	}
	m.seen = doc.Known
	if !publish || len(doc.keys) == 0 {
		return nil
	}
	m.keys = doc.keys
	v.Fetched, v.Changed, v.FromState = doc.Fetched, doc.Changed, true
	m.cfg.Log.Info("publishing the key set of a previous run until the source answers",
		m.attrs("keys", len(m.keys), "fetched", v.Fetched)...)
	return m.publish(v)
}

// save brings the file up to date. If confirmed is set, the source has just
// returned the last good keys.
func (m *Mirror) save(ctx context.Context, v *view, confirmed bool) error {
	s := &m.state
	due := confirmed && time.Since(s.touched) >= touchEvery
	if s.path == "" || m.cfg.ReadOnly || !s.stale && !due && s.unreadable == nil {
		return nil
	}
	m.awaitPredecessor()
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	release, err := acquire(ctx, writeSlots)
	if err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	defer release()
	if s.unreadable != nil {
		_, err := input.Bounded(s.path, func() (fs.FileInfo, error) { return os.Lstat(s.path) })
		if !errors.Is(err, fs.ErrNotExist) {
			return s.unreadable
		}
		s.unreadable, s.stale = nil, true
	}
	if fetched := v.Fetched; !s.stale {
		switch err := onFile(s.path, func(path string) error { return os.Chtimes(path, fetched, fetched) }); {
		case err == nil:
			s.touched = v.Fetched
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("recording in the state when the source answered: %w", err)
		}
	}
	if err := m.writeState(v); err != nil {
		return err
	}
	s.stale, s.touched = false, v.Fetched
	return nil
}

// awaitPredecessor lets the mirror that this one replaces, and that is stopping,
// finish a write of the same file.
func (m *Mirror) awaitPredecessor() {
	before := m.predecessor
	if before == nil || before.cfg.State != m.cfg.State {
		return
	}
	for end := time.Now().Add(stateTimeout); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if before.mu.TryLock() {
			before.mu.Unlock()
			return
		}
	}
}

// writeState replaces the file, unless it belongs to another issuer now.
func (m *Mirror) writeState(v *view) error {
	if len(m.keys) == 0 {
		return nil
	}
	if _, err := readState(m.state.path, m.cfg.Issuer); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return hint.Wrap(err, "it is not replaced, and no state is kept meanwhile: move it away")
	}
	set, err := jwks.Marshal(m.keys)
	if err != nil {
		return err
	}
	data, err := json.Marshal(document{
		Kind: stateKind, Issuer: m.cfg.Issuer, Fetched: v.Fetched.UTC(), Changed: v.Changed.UTC(), JWKS: set, Known: m.seen,
	})
	if err != nil {
		return fmt.Errorf("encoding the state: %w", err)
	}
	err = onFile(m.state.path, func(path string) error {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return replaceFile(path, data)
	})
	if err != nil {
		return hint.Errorf("the keys are published anyway, but not after a restart while the source is unavailable",
			"writing the state: %w", err)
	}
	return nil
}

// onFile calls do for the file at path, and does not wait if that hangs.
func onFile(path string, do func(path string) error) error {
	_, err := input.Bounded(path, func() (struct{}, error) { return struct{}{}, do(path) })
	return err
}

// readState reads the file at path, which must belong to issuer. Other users must
// not be able to replace it.
func readState(path, issuer string) (*document, error) {
	err := onFile(path, func(path string) error { return filemode.CheckDir(filepath.Dir(path)) })
	if err != nil {
		return nil, fmt.Errorf("reading the state: %w", err)
	}
	data, info, err := input.ReadFile(path, maxState)
	if err != nil {
		return nil, fmt.Errorf("reading the state: %w", err)
	}
	doc, err := decodeState(data)
	if err != nil {
		return nil, fmt.Errorf("reading the state %s: %w", path, err)
	}
	if doc.Issuer != issuer {
		return nil, fmt.Errorf("reading the state %s: it belongs to issuer %.256q, not %q", path, doc.Issuer, issuer)
	}
	if changed := info.ModTime(); changed.After(doc.Fetched) && !changed.After(time.Now()) {
		doc.Fetched = changed
	}
	return doc, nil
}

func decodeState(data []byte) (*document, error) {
	var head struct{ Kind string }
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	if head.Kind != stateKind {
		return nil, fmt.Errorf("it is of kind %.64q, not %q", head.Kind, stateKind)
	}
	var doc document
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		return nil, err
	}
	// An earlier version may have written a key that is refused now.
	keys, skipped, err := jwks.Filter(doc.JWKS)
	switch {
	case err != nil:
		return nil, err
	case len(keys)+len(skipped) == 0 || doc.Fetched.IsZero() || doc.Changed.IsZero():
		return nil, errors.New("it is not complete")
	}
	if err := doc.Known.check(keys); err != nil {
		return nil, fmt.Errorf("it contradicts itself: %w", err)
	}
	doc.keys, doc.Known = keys, doc.Known.with(keys)
	return &doc, nil
}
