package store

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"oidc-provider/rotation"
)

// Memory is a store in the memory of a process, for tests. It is a
// [rotation.Watcher]. The zero value is an empty store.
type Memory struct {
	mu      sync.Mutex
	data    []byte
	version int
	written chan struct{} // closed by the next write; nil if no Watch waits
}

// Load implements [rotation.Store].
func (m *Memory) Load(ctx context.Context) ([]byte, rotation.Version, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.data), m.current(), nil
}

// Swap implements [rotation.Store].
func (m *Memory) Swap(ctx context.Context, data []byte, old rotation.Version) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current() != old {
		return rotation.ErrConflict
	}
	m.data = slices.Clone(data)
	m.version++
	if m.written != nil {
		close(m.written)
		m.written = nil
	}
	return nil
}

// Watch implements [rotation.Watcher].
func (m *Memory) Watch(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		// The channel comes first, so that no later write is missed.
		written := m.nextWrite()
		changed()
		select {
		case <-ctx.Done():
		case <-written:
		}
	}
}

func (m *Memory) nextWrite() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.written == nil {
		m.written = make(chan struct{})
	}
	return m.written
}

func (m *Memory) current() rotation.Version {
	if m.version == 0 {
		return ""
	}
	return rotation.Version(strconv.Itoa(m.version))
}
