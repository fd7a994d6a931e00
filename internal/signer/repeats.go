package signer

import (
	"sync"
	"time"
)

// repeatInterval is the time between two log lines with the same reason.
const repeatInterval = 10 * time.Second

// repeats keeps the log short: for each reason at most one line per repeatInterval,
// since every request of a cluster can fail for the same reason. A line counts the
// lines that were suppressed before it.
type repeats struct {
	mu   sync.Mutex
	seen map[string]*repeat // by reason, of which there are a few
}

type repeat struct {
	logged     time.Time
	suppressed int // since then
}

func newRepeats() *repeats { return &repeats{seen: make(map[string]*repeat)} }

// due reports whether a line with this reason should be logged now, and how many
// were suppressed since the last one.
func (r *repeats) due(reason string) (suppressed int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.seen[reason]
	switch {
	case known == nil:
		known = new(repeat)
		r.seen[reason] = known
	case time.Since(known.logged) < repeatInterval:
		known.suppressed++
		return 0, false
	}
	suppressed = known.suppressed
	known.logged, known.suppressed = time.Now(), 0
	return suppressed, true
}
