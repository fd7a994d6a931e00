package rotation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Seen is what somebody has seen of a ring. Every ring that follows knows all
// of it: kids stay in a ring for ever, as keys or among the removed. One that
// does not is an old backup in the place of a newer world, or what became of
// one.
type Seen struct {
	// By tells who has seen it, for errors.
	By string `json:"-"`

	Issuer string `json:"issuer"`
	// Generation and Updated are zero for somebody who has seen keys alone.
	Generation int64     `json:"generation"`
	Updated    time.Time `json:"updated"`
	// KeyIDs are the kids of keys, Gone those that were removed or revoked.
	KeyIDs []string `json:"kids"`
	Gone   []string `json:"gone"`
}

// Seen is what r shows.
func (r *Ring) Seen() Seen {
	s := Seen{Issuer: r.Issuer, Generation: r.Generation, Updated: r.Updated, Gone: slices.Clone(r.Removed)}
	for i := range r.Keys {
		k := &r.Keys[i]
		s.KeyIDs = append(s.KeyIDs, k.KeyID)
		if !k.Published() {
			s.Gone = append(s.Gone, k.KeyID)
		}
	}
	return s
}

// A PastError is why a ring is refused: the world has seen more than it knows.
type PastError struct{ Reason string }

func (e *PastError) Error() string {
	return e.Reason + ": an old backup stands in the place of the ring, or the ring of something else (hint: put the newest ring back; if that is lost for good, the README tells under Backups how to go on)"
}

// CheckAgainst reports whether r can have come after what was seen, as a
// [*PastError] if not.
func (r *Ring) CheckAgainst(seen Seen) error {
	if seen.Issuer != "" && seen.Issuer != r.Issuer {
		return fmt.Errorf("the ring is that of issuer %q, and %s knows issuer %q", r.Issuer, seen.By, seen.Issuer)
	}
	if reason := r.contradicts(seen); reason != "" {
		return &PastError{reason}
	}
	return nil
}

func (r *Ring) contradicts(seen Seen) string {
	what := fmt.Sprintf("%s has seen generation %d of %s", seen.By, seen.Generation, seen.Updated.Format(time.RFC3339))
	mine := fmt.Sprintf("this is generation %d of %s", r.Generation, r.Updated.Format(time.RFC3339))
	switch {
	case r.Generation < seen.Generation || r.Updated.Before(seen.Updated):
		return "the ring went back in time: " + what + ", and " + mine
	case seen.Generation > 0 && !r.passed(seen.Generation, seen.Updated):
		return "the ring took another way: " + what + ", and " + mine + ", which did not come from it"
	}
	for _, kid := range seen.KeyIDs {
		if !r.Knows(kid) {
			return fmt.Sprintf("the ring has never known key %s, which %s has seen", kid, seen.By)
		}
	}
	for _, kid := range seen.Gone {
		if k := r.find(kid); k != nil && k.Published() {
			return fmt.Sprintf("the ring publishes key %s, which was revoked or removed when %s saw it", kid, seen.By)
		}
	}
	return ""
}

// passed reports whether r, at this generation, was written at updated, as far
// as its history goes back.
func (r *Ring) passed(generation int64, updated time.Time) bool {
	switch back := r.Generation - generation; {
	case back == 0:
		return r.Updated.Equal(updated)
	case back <= int64(len(r.History)):
		return r.History[back-1].Equal(updated)
	}
	return true
}

// memory is the document that Seen is kept in.
type memory struct {
	// Kind tells it from a ring, and from anything else.
	Kind string `json:"kind"`
	Seen Seen   `json:"seen"`
}

const memoryKind = "oidc-provider memory of a ring"

// Recall is what a rotator has kept in [Config.RollbackState], or nil.
func ReadRollbackState(ctx context.Context, s Store) (*Seen, error) {
	seen, _, err := recall(ctx, s)
	return seen, err
}

func recall(ctx context.Context, s Store) (*Seen, Version, error) {
	data, v, err := s.Load(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("recalling what was seen of the ring: %w", err)
	}
	if v == "" {
		return nil, "", nil
	}
	m := memory{Seen: Seen{By: "this server before its start (--rollback-state)"}}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil || m.Kind != memoryKind {
		return nil, "", errors.New("recalling what was seen of the ring: what is there is no such memory, and was left as it is (hint: --rollback-state wants a directory of its own)")
	}
	return &m.Seen, v, nil
}

// recall reads what this replica has seen before it was started.
func (r *Rotator) recall(ctx context.Context) error {
	if r.cfg.RollbackState == nil {
		return nil
	}
	seen, v, err := recall(ctx, r.cfg.RollbackState)
	if err != nil {
		return err
	}
	if r.remembered = v; seen != nil {
		r.seen = append(r.seen, *seen)
	}
	return nil
}

// remember keeps what ring shows for the next start.
func (r *Rotator) remember(ctx context.Context, ring *Ring) error {
	if r.cfg.RollbackState == nil || r.memory == ring.Generation {
		return nil
	}
	data, err := json.Marshal(memory{memoryKind, ring.Seen()})
	if err != nil {
		return err
	}
	swapErr := r.cfg.RollbackState.Swap(ctx, data, r.remembered)
	// Only Load knows the version of what is there now.
	if _, r.remembered, err = r.cfg.RollbackState.Load(ctx); err == nil {
		err = swapErr
	}
	if err != nil {
		return fmt.Errorf("remembering what was seen of the ring: %w", err)
	}
	r.memory = ring.Generation
	return nil
}
