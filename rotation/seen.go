package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Seen is what somebody has seen of a ring. Every ring that follows knows all
// of it: kids stay in a ring for ever, as keys or among the removed. One that
// does not is an old backup in the place of a newer world.
type Seen struct {
	// By tells who has seen it, for errors.
	By string `json:"-"`

	Issuer string `json:"issuer"`
	// Generation and Updated are zero for somebody who has seen keys alone.
	Generation int64     `json:"generation"`
	Updated    time.Time `json:"updated"`
	KeyIDs     []string  `json:"kids"`
}

// Seen is what r shows.
func (r *Ring) Seen() Seen {
	s := Seen{Issuer: r.Issuer, Generation: r.Generation, Updated: r.Updated}
	for i := range r.Keys {
		s.KeyIDs = append(s.KeyIDs, r.Keys[i].KeyID)
	}
	return s
}

// A PastError is why a ring is refused: the world has seen more than it knows.
type PastError struct{ Reason string }

func (e *PastError) Error() string {
	return e.Reason + ": an old backup stands in the place of the ring, or the ring of something else (hint: put the newest ring back; if it is lost for good, take the key set that is still shown to the world, `oidc-provider keys import` it so that its tokens verify, and restart every server that remembers more)"
}

// CheckAgainst reports whether r can have come after what was seen, as a
// [*PastError] if not.
func (r *Ring) CheckAgainst(seen Seen) error {
	switch {
	case seen.Issuer != "" && seen.Issuer != r.Issuer:
		return fmt.Errorf("the ring is that of issuer %q, and %s knows issuer %q", r.Issuer, seen.By, seen.Issuer)
	case r.Generation < seen.Generation:
		return &PastError{fmt.Sprintf("the ring went back in time, from generation %d of %s, which %s has seen, to %d of %s",
			seen.Generation, seen.Updated.Format(time.RFC3339), seen.By, r.Generation, r.Updated.Format(time.RFC3339))}
	case r.Updated.Before(seen.Updated):
		return &PastError{fmt.Sprintf("the ring went back in time, from %s, which %s has seen, to %s",
			seen.Updated.Format(time.RFC3339), seen.By, r.Updated.Format(time.RFC3339))}
	}
	for _, kid := range seen.KeyIDs {
		if !r.Knows(kid) {
			return &PastError{fmt.Sprintf("the ring has never known key %s, which %s has seen", kid, seen.By)}
		}
	}
	return nil
}

// recall reads what this replica has seen before it was started.
func (r *Rotator) recall(ctx context.Context) error {
	if r.cfg.Memory == nil {
		return nil
	}
	data, v, err := r.cfg.Memory.Load(ctx)
	if err != nil {
		return fmt.Errorf("recalling what was seen of the ring: %w", err)
	}
	if r.remembered = v; v == "" {
		return nil
	}
	seen := Seen{By: "this server before its start"}
	if err := json.Unmarshal(data, &seen); err != nil || seen.Generation < 1 {
		return errors.New("recalling what was seen of the ring: what is there is no such memory, and was left as it is (hint: name another place with --remember)")
	}
	r.seen = append(r.seen, seen)
	return nil
}

// remember keeps what ring shows for the next start.
func (r *Rotator) remember(ctx context.Context, ring *Ring) error {
	if r.cfg.Memory == nil || r.memory == ring.Generation {
		return nil
	}
	data, err := json.Marshal(ring.Seen())
	if err != nil {
		return err
	}
	swapErr := r.cfg.Memory.Swap(ctx, data, r.remembered)
	// Only Load knows the version of what is there now.
	if _, r.remembered, err = r.cfg.Memory.Load(ctx); err == nil {
		err = swapErr
	}
	if err != nil {
		return fmt.Errorf("remembering what was seen of the ring: %w", err)
	}
	r.memory = ring.Generation
	return nil
}
