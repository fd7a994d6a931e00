package rotation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"oidc-provider/internal/hint"
)

// A rollbackState keeps what a replica has seen of the ring until its next
// start, in a store of its own. It belongs to one goroutine.
type rollbackState struct {
	store   Store   // nil if nothing is kept
	version Version // of the document that was read or written last
	ring    *Ring   // that this process has noted there last
	noted   []byte  // the document about it
}

// rollbackDocument is the document in that store.
type rollbackDocument struct {
	// Kind distinguishes it from a ring, and from other documents.
	Kind string `json:"kind"`
	Seen Seen   `json:"seen"`
}

const rollbackKind = "oidc-provider rollback state"

// ReadRollbackState returns what a rotator has kept in [Config.RollbackState],
// or nil if s is empty.
func ReadRollbackState(ctx context.Context, s Store) (*Seen, error) {
	return (&rollbackState{store: s}).read(ctx)
}

// read returns what was seen before this replica was started, or nil.
func (s *rollbackState) read(ctx context.Context) (*Seen, error) {
	if s.store == nil {
		return nil, nil
	}
	data, version, err := s.store.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the rollback state: %w", err)
	}
	s.version = version
	if version == "" {
		return nil, nil
	}
	doc := rollbackDocument{Seen: Seen{By: "this server before its start (rollback state)"}}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil || doc.Kind != rollbackKind {
		return nil, hint.Errorf("{rollbackState} needs a directory of its own",
			"reading the rollback state: the document is not a rollback state, and was left unchanged")
	}
	return &doc.Seen, nil
}

// keep notes what can be seen of ring, for the next start.
func (s *rollbackState) keep(ctx context.Context, ring *Ring) error {
	if s.store == nil || s.ring == ring {
		return nil
	}
	data, err := json.Marshal(rollbackDocument{rollbackKind, ring.Seen()})
	if err != nil {
		return err
	}
	if bytes.Equal(data, s.noted) {
		s.ring = ring
		return nil
	}
	swapErr := s.store.Swap(ctx, data, s.version)
	// Only Load returns the version of what is there now.
	_, version, err := s.store.Load(ctx)
	if err == nil {
		s.version, err = version, swapErr
	}
	if err != nil {
		return fmt.Errorf("writing the rollback state: %w", err)
	}
	s.ring, s.noted = ring, data
	return nil
}
