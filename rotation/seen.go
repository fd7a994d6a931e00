package rotation

import (
	"fmt"
	"slices"
	"time"
)

// Seen is what a process or a witness has seen of a ring. Every later ring
// contains all of it: kids stay in a ring forever, as keys or among the removed
// ones. A ring that does not contain it is an old backup, or developed from one.
type Seen struct {
	// By names the process or witness, for errors.
	By string `json:"-"`

	Issuer string `json:"issuer"`
	// Generation and Updated are zero for a witness, which has seen only keys.
	Generation int64     `json:"generation"`
	Updated    time.Time `json:"updated"`
	// KeyIDs are the kids of keys in the ring, and Gone those of keys that were
	// removed or revoked.
	KeyIDs []string `json:"kids"`
	Gone   []string `json:"gone"`

	// Digest identifies a signed ring, and Writers may sign the next one.
	Digest         Digest     `json:"digest,omitzero"`
	Writers        []WriterID `json:"writers,omitempty"`
	RemovedWriters []WriterID `json:"removedWriters,omitempty"`

	// Struck are the kids of keys that a [Revocation] has taken away, and the ring
	// has not yet.
	Struck []string `json:"struck,omitempty"`
}

// Seen returns what can be seen of r.
func (r *Ring) Seen() Seen {
	s := Seen{
		Issuer: r.Issuer, Generation: r.Generation, Updated: r.Updated, Gone: slices.Clone(r.Removed),
		Writers: r.fullWriters(), RemovedWriters: r.RemovedWriters,
	}
	if r.source != nil {
		s.Digest = r.source.digest
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		s.KeyIDs = append(s.KeyIDs, k.KeyID)
		switch {
		case !k.RevokedAt.IsZero():
			s.Gone = append(s.Gone, k.KeyID)
		case k.struck:
			s.Struck = append(s.Struck, k.KeyID)
		}
	}
	return s
}

// A PastError is the reason why a ring is refused: a newer one was seen.
type PastError struct{ Reason string }

func (e *PastError) Error() string {
	return e.Reason + ": this is an old backup, or another ring"
}

// Hint returns what to do about it.
func (e *PastError) Hint() string {
	return "restore the newest ring; if it is lost, `oidc-provider keys restore --help` describes how to use an older one"
}

// CheckAgainst returns nil if r can have come after what was seen, and a
// [*PastError] if not.
func (r *Ring) CheckAgainst(seen Seen) error {
	if seen.Issuer != "" && seen.Issuer != r.Issuer {
		return fmt.Errorf("the ring belongs to issuer %q, and %s has seen issuer %q", r.Issuer, seen.By, seen.Issuer)
	}
	if reason := r.contradicts(seen); reason != "" {
		return &PastError{reason}
	}
	return nil
}

func (r *Ring) contradicts(seen Seen) string {
	theirs := fmt.Sprintf("%s has seen generation %d of %s", seen.By, seen.Generation, seen.Updated.Format(time.RFC3339))
	ours := fmt.Sprintf("this is generation %d of %s", r.Generation, r.Updated.Format(time.RFC3339))
	switch {
	case r.Generation < seen.Generation || r.Updated.Before(seen.Updated) && !r.repaired(seen):
		return "the ring went back in time: " + theirs + ", and " + ours
	case seen.Generation > 0 && !r.passed(seen):
		return "the ring has another history: " + theirs + ", and " + ours + ", which did not develop from it"
	}
	for _, kid := range seen.KeyIDs {
		if !r.Knows(kid) {
			return fmt.Sprintf("the ring has never had key %s, which %s has seen", kid, seen.By)
		}
	}
	for _, kid := range seen.Gone {
		if k := r.find(kid); k != nil && k.RevokedAt.IsZero() {
			return fmt.Sprintf("the ring publishes key %s, which %s has seen revoked or removed", kid, seen.By)
		}
	}
	return ""
}

// passed reports whether r is the ring that was seen, or developed from it, as far
// as what r knows of its past reaches back.
func (r *Ring) passed(seen Seen) bool {
	back := r.Generation - seen.Generation
	switch {
	case back == 0 && r.source != nil && !seen.Digest.IsZero():
		return r.source.digest == seen.Digest
	case back == 0:
		return r.Updated.Equal(seen.Updated)
	case back <= int64(len(r.Past)) && !seen.Digest.IsZero():
		return r.Past[back-1] == seen.Digest
	case back <= int64(len(r.History)):
		return r.History[back-1].Equal(seen.Updated)
	}
	return true
}
