package rotation

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// A narrator logs what happens to the keys, and what fails. It belongs to one
// goroutine.
type narrator struct {
	log *slog.Logger

	last    *Ring  // the ring whose changes were logged last
	active  string // the kid that was active then
	waiting string // the wait for copies that was logged last
	trusts  bool   // that a writer was trusted at first use was logged
	keys    int    // in the key set that was published last
}

// changes logs what has happened to the keys since the last call: a key that
// has become active, and what others have written. at is the time that this
// replica signs at.
func (n *narrator) changes(ring *Ring, at time.Time) {
	active := ring.Active(at)
	if n.last != nil && active.KeyID != n.active {
		n.log.Info("a new key is active", "kid", active.KeyID, "previous", n.active, "forced", active.Forced)
		if lacking := ring.Lacking(active); len(lacking) > 0 {
			n.log.Warn("not every copy has confirmed the active key: relying parties that use the others reject its tokens",
				"kid", active.KeyID, "copies", strings.Join(lacking, ", "))
		}
	}
	if n.last != nil {
		n.struck(n.last, ring)
	}
	// What this process has written was logged by wrote.
	if n.last != nil && ring.Generation > n.last.Generation {
		n.foreign(n.last, ring)
	}
	n.last, n.active = ring, active.KeyID
	n.waits(ring, at)
}

// waits logs once which copies the next activation waits for, and once more
// when it is overdue.
func (n *narrator) waits(ring *Ring, at time.Time) {
	w := ring.Waiting(at)
	if w == nil || len(w.Copies) == 0 {
		n.waiting = ""
		return
	}
	due := !at.Before(w.Due)
	names := strings.Join(w.Copies, ", ")
	waiting := fmt.Sprint(w.KeyID, names, due)
	if waiting == n.waiting {
		return
	}
	n.waiting = waiting
	if due {
		n.log.Warn("the rotation is due but waits for copies: the active key keeps signing",
			"kid", w.KeyID, "copies", names, "due", w.Due)
		return
	}
	n.log.Warn("the next rotation waits for copies: update them, then run `oidc-provider keys copies confirm COPY KID`",
		"kid", w.KeyID, "copies", names, "by", w.By)
}

// firstUse logs once that nothing said whom to trust.
func (n *narrator) firstUse(id WriterID) {
	if !n.trusts {
		n.log.Warn("nothing said who may sign the ring: its writers are trusted from now on, and noted in the rollback state",
			"writer", id)
	}
	n.trusts = true
}

// struck logs the keys that a [Revocation] has taken away.
func (n *narrator) struck(old, ring *Ring) {
	for i := range ring.Keys {
		k := &ring.Keys[i]
		if before := old.find(k.KeyID); before != nil && before.Published() && k.struck && k.RevokedAt.IsZero() {
			n.log.Warn("a key was revoked by a writer that may only revoke", "kid", k.KeyID)
		}
	}
}

// foreign logs what another process has changed.
func (n *narrator) foreign(old, ring *Ring) {
	for i := range ring.Keys {
		n.foreignKey(old, ring, &ring.Keys[i])
	}
	if !slices.Equal(old.Recipients, ring.Recipients) {
		n.log.Warn("the keys were sealed for other recipients", "from", old.Recipients, "to", ring.Recipients)
	}
	if before, after := copyNames(old), copyNames(ring); !slices.Equal(before, after) {
		n.log.Warn("the list of copies was changed", "from", before, "to", after)
	}
	if before, after := writerNames(old), writerNames(ring); !slices.Equal(before, after) {
		n.log.Warn("the writers of the ring were changed", "from", before, "to", after)
	}
	if old.Policy != ring.Policy {
		n.log.Warn("the policy was changed by another process and is now in force", "from", old.Policy, "to", ring.Policy)
	}
}

func (n *narrator) foreignKey(old, ring *Ring, k *Key) {
	before := old.find(k.KeyID)
	switch {
	case before == nil && k.VerifyOnly:
		n.log.Info("a public key was imported", "kid", k.KeyID)
	case before == nil:
		n.log.Info("a key was added", "kid", k.KeyID)
	case before.RevokedAt.IsZero() && !k.RevokedAt.IsZero():
		n.log.Warn("a key was revoked", "kid", k.KeyID)
	case len(k.CopyConfirmedAt) > len(before.CopyConfirmedAt):
		n.log.Info("a copy has confirmed a key", "kid", k.KeyID, "copies", slices.Sorted(maps.Keys(k.CopyConfirmedAt)))
	case k.InKeySet() && len(k.CopyConfirmedAt) < len(before.CopyConfirmedAt) && len(ring.Copies) >= len(old.Copies):
		n.log.Warn("a copy has lost a key", "kid", k.KeyID, "copies", strings.Join(ring.Lacking(k), ", "))
	}
}

// wrote logs what this process has changed with ring.
func (n *narrator) wrote(ring *Ring, events []Event) {
	for _, e := range events {
		attrs := []any{"kid", e.KeyID}
		if e.Previous != "" {
			attrs = append(attrs, "previous", e.Previous)
		}
		if !e.At.IsZero() {
			attrs = append(attrs, "at", e.At)
		}
		n.log.Info(e.Msg, attrs...)
	}
	n.last = ring
}

// published warns of a key set with too many keys, when their number changes.
func (n *narrator) published(keys int) {
	if keys == n.keys {
		return
	}
	n.keys = keys
	switch {
	case keys > TooManyKeys:
		n.log.Error("far too many keys are published: AWS STS fails above 100, other relying parties read at most 32 KiB",
			"keys", keys)
	case keys > ManyKeys:
		n.log.Warn("many keys are published: rotate less often, or shorten the token lifetime", "keys", keys)
	}
}

// failure logs a failure of the loop when it starts, changes or ends.
func (n *narrator) failure(before, after error) {
	switch {
	case after != nil && (before == nil || before.Error() != after.Error()):
		n.log.Error("rotation is failing; the known keys stay in use", "err", after)
	case after == nil && before != nil:
		n.log.Info("rotation works again")
	}
}
