package rotation

import (
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
	return e.Reason + ": this is an old backup, or another ring"
}

// Hint returns what to do about it.
func (e *PastError) Hint() string {
	return "restore the newest ring; if it is lost, `oidc-provider keys restore --help` says how to continue with an older one"
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
