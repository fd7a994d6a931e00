package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"oidc-provider/jwks"
)

const stateKind = "oidc-provider-mirror/v1"

// maxState is far above what a key set and a record can grow to.
const maxState = 16 << 20

// stateTimeout bounds what a mirror waits for others before it writes.
const stateTimeout = time.Second

// touchEvery is how often the file notes that the source was heard.
const touchEvery = time.Minute

// A state is what a mirror knows of its file.
type state struct {
	path string
	// unreadable is why the file that was there at the start is left alone.
	unreadable error
	stale      bool // the file lacks something
	touched    time.Time
}

// A document is what stands in the file. When the source was heard since is the
// time of the file: noting it must cost no more than that.
type document struct {
	Kind    string          `json:"kind"`
	Issuer  string          `json:"issuer"`
	Fetched time.Time       `json:"fetched"`
	Changed time.Time       `json:"changed"`
	JWKS    json.RawMessage `json:"jwks"`
	Known   record          `json:"known"`

	keys []jwks.PublicKey // as they stand in JWKS
}

// recall reads the file, if there is one, and shows what is in it.
func (m *Mirror) recall(v *view) error {
	if m.state.path == "" {
		return nil
	}
	doc, err := readState(m.state.path, m.cfg.Issuer)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		m.state.unreadable = fmt.Errorf("%w (hint: it is left as it is, and nothing is kept meanwhile: move it away, or mend it and restart)", err)
		return m.state.unreadable
	}
	m.seen = doc.Known
	if m.cfg.Quiet {
		return nil
	}
	m.keys = doc.keys
	v.Fetched, v.Changed, v.Recalled = doc.Fetched, doc.Changed, true
	m.cfg.Log.Info("the key set of an earlier run is published until the source is heard", m.attrs("keys", len(m.keys), "fetched", v.Fetched)...)
	return m.publish(v)
}

// save writes what the file lacks; heard says that the source has just
// confirmed the rest.
func (m *Mirror) save(ctx context.Context, v *view, heard bool) error {
	s := &m.state
	due := heard && time.Since(s.touched) >= touchEvery
	if s.path == "" || m.cfg.ReadOnly || !s.stale && !due && s.unreadable == nil {
		return nil
	}
	m.awaitBefore()
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	release, err := acquire(ctx, states)
	if err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	defer release()
	if s.unreadable != nil {
		if _, err := os.Lstat(s.path); !errors.Is(err, fs.ErrNotExist) {
			return s.unreadable
		}
		s.unreadable, s.stale = nil, true
	}
	if !s.stale {
		switch err := os.Chtimes(s.path, v.Fetched, v.Fetched); {
		case err == nil:
			s.touched = v.Fetched
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("noting in the state when the source was heard: %w", err)
		}
	}
	if err := m.writeState(v); err != nil {
		return err
	}
	s.stale, s.touched = false, v.Fetched
	return nil
}

// awaitBefore lets the mirror that this one has taken the place of, which has
// been told to stop, finish what it is writing.
func (m *Mirror) awaitBefore() {
	before := m.cfg.After
	m.cfg.After = nil
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

// writeState replaces the file, unless that has become somebody else's.
func (m *Mirror) writeState(v *view) error {
	if len(m.keys) == 0 {
		return nil
	}
	if _, err := readState(m.state.path, m.cfg.Issuer); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (hint: it is left as it is, and nothing is kept meanwhile: move it away)", err)
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
	err = os.MkdirAll(filepath.Dir(m.state.path), 0o700)
	if err == nil {
		err = replaceFile(m.state.path, data)
	}
	if err != nil {
		return fmt.Errorf("writing the state: %w (hint: the keys are published all the same, but not after a restart while the source is away)", err)
	}
	return nil
}

// readState reads the file at path, which must belong to issuer.
func readState(path, issuer string) (*document, error) {
	data, changed, err := readRegular(path, maxState)
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
	if changed.After(doc.Fetched) && !changed.After(time.Now()) {
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
	keys, err := jwks.Parse(doc.JWKS)
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0 || doc.Fetched.IsZero() || doc.Changed.IsZero():
		return nil, errors.New("it is not complete")
	}
	if err := doc.Known.check(keys); err != nil {
		return nil, fmt.Errorf("it contradicts itself: %w", err)
	}
	doc.keys, doc.Known = keys, doc.Known.with(keys)
	return &doc, nil
}

// readRegular reads a file and its time, and nothing but a file: opening a pipe
// could take for ever.
func readRegular(path string, limit int64) (data []byte, changed time.Time, err error) {
	file, info, err := openRegular(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer file.Close()
	data, err = readAtMost(file, limit)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	return data, info.ModTime(), nil
}

func openRegular(path string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	// What was opened may be another file by now.
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("larger than %d KiB", limit>>10)
	}
	return data, err
}
