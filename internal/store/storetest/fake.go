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

// A Kind is a kind of store, as far as those who use it can notice.
type Kind int

const (
	KindFile   Kind = iota // a version is a hash: the same document has the same one again; no watch
	KindMemory             // a version is a counter
	KindEtcd               // a version is a revision of everything in the store, and leaps
	KindSecret             // a version may change without the document
)

// Kinds is all of them.
var Kinds = []Kind{KindFile, KindMemory, KindEtcd, KindSecret}

func (k Kind) String() string { return [...]string{"file", "memory", "etcd", "secret"}[k] }

// remote says that there is a network between the store and its users.
func (k Kind) remote() bool { return k == KindEtcd || k == KindSecret }

// A Fault is what may happen to one Swap.
type Fault int

const (
	NoFault    Fault = iota
	FailBefore       // nothing is written, and an error returned
	FailAfter        // it is written, and an error returned
	LoseRace         // ErrConflict, though the version is the right one
	Late             // an error is returned, and [Fake.Land] writes; FailBefore for a file and memory
)

// A Fake is a store in memory that behaves like one kind and fails when it is
// told to. It has no goroutine and no clock. Its methods may be called by many
// goroutines.
type Fake struct {
	// OnWrite, unless it is nil, is called whenever Swap or Land makes data
	// the document, one call at a time and before anybody can read it. It
	// must not use the Fake.
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

	changed chan struct{} // closed when there is something to tell watchers
}

type lateWrite struct {
	data []byte
	old  rotation.Version
}

// Counts is what a [Fake] has lived through.
type Counts struct{ Writes, Faults int }

// NewFake is an empty store of a kind.
func NewFake(kind Kind) *Fake {
	return &Fake{kind: kind, changed: make(chan struct{})}
}

// Kind is what it behaves like.
func (f *Fake) Kind() Kind { return f.kind }

// Data is the true document. Nil means that there is none.
func (f *Fake) Data() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.data)
}

// Counts is how many times the document was written, and faults happened.
func (f *Fake) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// FailSwap makes fault happen to the next Swap that gets here.
func (f *Fake) FailSwap(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// FailLoad makes the next Load that gets here fail.
func (f *Fake) FailLoad() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loadErr = f.hostile("reading")
}

// Put replaces the document without asking for a version, as an operator with
// other tools might. Nil removes it. OnWrite is not called.
func (f *Fake) Put(data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(data)
}

// Touch is what happens in the neighbourhood: other keys are written in etcd,
// and a Secret gets a label, which changes its version.
func (f *Fake) Touch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision++
	if f.kind == KindSecret && f.version != "" {
		f.set(f.data)
	}
}

// Land makes the late writes arrive, in their order. Each is the document then
// if the version is the one that it was meant to replace. Land says whether
// any was.
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
	f.set(append([]byte{}, data...)) // an empty document is one
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

// leap is larger where others write to the same server.
func (f *Fake) leap() uint64 {
	if f.kind.remote() {
		return 1 + f.revision*7%5
	}
	return 1
}

func (f *Fake) hostile(doing string) error {
	if f.kind.remote() {
		return fmt.Errorf("the hostile store says no to %s: %w", doing, rotation.ErrUnavailable)
	}
	return errors.New("the hostile store says no to " + doing)
}

// Handle returns a new way to the store, which is open.
func (f *Fake) Handle() *Handle {
	return &Handle{fake: f, toggled: make(chan struct{})}
}

// A Handle is one process's way to a [Fake], and a [rotation.Store]. It is no
// [rotation.Watcher]: see [Handle.Store].
type Handle struct {
	fake *Fake

	mu        sync.Mutex
	cut, deaf bool
	toggled   chan struct{} // closed when one of them changes
}

// Store is the handle as a process would have it: a [rotation.Watcher] if the
// kind is one.
func (h *Handle) Store() rotation.Store {
	if h.fake.kind == KindFile {
		return h
	}
	return watching{h}
}

type watching struct{ *Handle }

// SetCut cuts the handle off from the store, or restores it.
func (h *Handle) SetCut(cut bool) { h.toggle(&h.cut, cut) }

// Cut says whether it is cut off.
func (h *Handle) Cut() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cut
}

// SetDeaf keeps the changes from those who watch through the handle.
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
		return h.fake.hostile("passing the cut")
	}
	return nil
}

// Watch implements [rotation.Watcher].
func (w watching) Watch(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		hears, toggled, told := w.state()
		if hears {
			changed()
		}
		select {
		case <-ctx.Done():
		case <-toggled:
		case <-told:
		}
	}
}

// state is whether changes get through, and what ends that or is one.
func (h *Handle) state() (hears bool, toggled, told <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fake.mu.Lock()
	defer h.fake.mu.Unlock()
	return !h.cut && !h.deaf, h.toggled, h.fake.changed
}
