package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"oidc-provider/rotation"
)

// A Kind is a kind of store, as its callers see it.
type Kind int

const (
	KindFile   Kind = iota // a version is a hash: equal documents have equal versions; no Watch
	KindMemory             // a version is a counter
	KindEtcd               // a version is a revision of all keys, and skips numbers
	KindSecret             // a version may change without the document
)

// Kinds lists all kinds.
var Kinds = []Kind{KindFile, KindMemory, KindEtcd, KindSecret}

func (k Kind) String() string { return [...]string{"file", "memory", "etcd", "secret"}[k] }

// remote reports whether a network is between the store and its callers.
func (k Kind) remote() bool { return k == KindEtcd || k == KindSecret }

// A Fault is a failure of one Swap.
type Fault int

const (
	NoFault    Fault = iota
	FailBefore       // Swap returns an error and writes nothing
	FailAfter        // Swap writes and returns an error
	LoseRace         // Swap returns ErrConflict, although the version is right
	Late             // Swap returns an error, and [Fake.Land] writes; like FailBefore for file and memory
)

// A Fake is the backend of one kind of store, in memory. It fails on request. It has
// no goroutine and no clock. Many goroutines may call its methods.
type Fake struct {
	// OnWrite, if not nil, is called for each write by Swap or Land, one call at
	// a time and before a Load returns data. It must not use the Fake.
	OnWrite func(data []byte)

	kind Kind

	mu       sync.Mutex
	data     []byte
	version  rotation.Version
	revision uint64

	fault   Fault // of the next Swap
	late    []lateWrite
	loadErr error // of the next Load
	counts  Counts

	changed chan struct{} // closed by the next change
}

type lateWrite struct {
	data []byte
	old  rotation.Version
}

// Counts has the numbers of writes to a [Fake] and of faults.
type Counts struct{ Writes, Faults int }

// NewFake returns an empty store of a kind.
func NewFake(kind Kind) *Fake {
	return &Fake{kind: kind, changed: make(chan struct{})}
}

// Kind returns the kind of store that f imitates.
func (f *Fake) Kind() Kind { return f.kind }

// Data returns the document, nil if there is none.
func (f *Fake) Data() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.data)
}

// Counts returns how many writes and faults have happened.
func (f *Fake) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// FailSwap makes fault happen to the next Swap that reaches f.
func (f *Fake) FailSwap(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// FailLoad makes the next Load that reaches f fail.
func (f *Fake) FailLoad() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loadErr = f.hostile("reading")
}

// Put replaces the document and ignores its version, as an operator with other tools
// might. Nil removes it. OnWrite is not called.
func (f *Fake) Put(data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(data)
}

// Touch changes something else in the store: another key of etcd, or a label of a
// Secret, which changes the version of the Secret.
func (f *Fake) Touch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision++
	if f.kind == KindSecret && f.version != "" {
		f.set(f.data)
	}
}

// Land executes the late writes, in their order. Each one succeeds if the version is
// still the one that it replaces. Land reports whether any succeeded.
func (f *Fake) Land() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	landed := false
	for _, w := range f.late {
		if f.version == w.old {
			f.write(w.data)
			landed = true
		}
	}
	f.late = nil
	return landed
}

func (f *Fake) load() ([]byte, rotation.Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.loadErr; err != nil {
		f.loadErr = nil
		f.counts.Faults++
		return nil, "", err
	}
	return slices.Clone(f.data), f.version, nil
}

func (f *Fake) swap(data []byte, old rotation.Version) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault := f.fault
	if f.fault = NoFault; fault != NoFault {
		f.counts.Faults++
	}
	switch {
	case fault == FailBefore:
		return f.hostile("writing")
	case fault == Late:
		if f.kind.remote() {
			f.late = append(f.late, lateWrite{slices.Clone(data), old})
		}
		return f.hostile("writing")
	case f.version != old || fault == LoseRace:
		return rotation.ErrConflict
	}
	f.write(data)
	if fault == FailAfter {
		return f.hostile("writing")
	}
	return nil
}

func (f *Fake) write(data []byte) {
	f.counts.Writes++
	f.set(append([]byte{}, data...)) // not nil: an empty document is a document
	if f.OnWrite != nil {
		f.OnWrite(slices.Clone(data))
	}
}

func (f *Fake) set(data []byte) {
	f.data, f.version = slices.Clone(data), ""
	f.revision += f.leap()
	switch {
	case data == nil:
	case f.kind == KindFile:
		sum := sha256.Sum256(data)
		f.version = rotation.Version(hex.EncodeToString(sum[:]))
	default:
		f.version = rotation.Version(strconv.FormatUint(f.revision, 10))
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// leap returns the difference between two revisions. It varies if other clients write
// to the same server.
func (f *Fake) leap() uint64 {
	if f.kind.remote() {
		return 1 + f.revision*7%5
	}
	return 1
}

func (f *Fake) hostile(doing string) error {
	if f.kind.remote() {
		return fmt.Errorf("the hostile store fails when %s: %w", doing, rotation.ErrUnavailable)
	}
	return errors.New("the hostile store fails when " + doing)
}

// Handle returns a new handle, connected to f.
func (f *Fake) Handle() *Handle {
	return &Handle{fake: f, toggled: make(chan struct{})}
}

// A Handle is the store of one process, with a [Fake] as its backend. It implements
// [rotation.Store], but not [rotation.Watcher]: see [Handle.Store].
type Handle struct {
	fake *Fake

	mu        sync.Mutex
	cut, deaf bool
	toggled   chan struct{} // closed when cut or deaf changes
}

// Store returns the handle as a process would use it: a [rotation.Watcher] if stores
// of its kind are.
func (h *Handle) Store() rotation.Store {
	if h.fake.kind == KindFile {
		return h
	}
	return watching{h}
}

type watching struct{ *Handle }

// SetCut disconnects the handle from the backend, or connects it again.
func (h *Handle) SetCut(cut bool) { h.toggle(&h.cut, cut) }

// Cut reports whether the handle is disconnected.
func (h *Handle) Cut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cut
}

// SetDeaf stops Watch from reporting changes, or starts it again.
func (h *Handle) SetDeaf(deaf bool) { h.toggle(&h.deaf, deaf) }

func (h *Handle) toggle(which *bool, to bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if *which != to {
		*which = to
		close(h.toggled)
		h.toggled = make(chan struct{})
	}
}

// Load implements [rotation.Store].
func (h *Handle) Load(ctx context.Context) ([]byte, rotation.Version, error) {
	if err := h.pass(ctx); err != nil {
		return nil, "", err
	}
	return h.fake.load()
}

// Swap implements [rotation.Store].
func (h *Handle) Swap(ctx context.Context, data []byte, old rotation.Version) error {
	if err := h.pass(ctx); err != nil {
		return err
	}
	return h.fake.swap(data, old)
}

func (h *Handle) pass(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.Cut() {
		return h.fake.hostile("disconnected")
	}
	return nil
}

// Watch implements [rotation.Watcher].
func (w watching) Watch(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		connected, toggled, written := w.state()
		if connected {
			changed()
		}
		select {
		case <-ctx.Done():
		case <-toggled:
		case <-written:
		}
	}
}

// state reports whether Watch reports changes. One channel is closed when that
// changes, the other by the next change of the document.
func (h *Handle) state() (connected bool, toggled, written <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fake.mu.Lock()
	defer h.fake.mu.Unlock()
	return !h.cut && !h.deaf, h.toggled, h.fake.changed
}
