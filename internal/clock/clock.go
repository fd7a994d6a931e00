// Package clock has the evidence for this machine's clock: what the kernel says
// about its synchronisation, and the Date of answers from other machines. It
// implements [rotation.Clock].
package clock

import (
	"fmt"
	"sync"
	"time"

	"oidc-provider/internal/httpclient"
	"oidc-provider/rotation"
)

// maxAge is how long a Date counts after the last answer: a machine that was wrong
// and is gone must not contradict this clock forever.
const maxAge = 30 * time.Minute

// Evidence is what is known about the clock of this machine. Its methods may be
// called by several goroutines.
type Evidence struct {
	kernel func() bool

	mu    sync.Mutex
	dates map[string]date
}

// A date is the last one of a machine.
type date struct {
	httpclient.Date
	corroborates bool
}

// New returns evidence with the kernel's word alone.
func New() *Evidence { return &Evidence{kernel: Synchronised, dates: make(map[string]date)} }

// Add notes a Date that by has shown. It can contradict the clock; it confirms it
// only if corroborates is set: another machine must have answered, not this one.
// The last Date of each machine counts.
func (e *Evidence) Add(by string, d httpclient.Date, corroborates bool) {
	if d.Shown.IsZero() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dates[by] = date{d, corroborates}
}

// Check implements [rotation.Clock]. The clock is wrong if more machines contradict
// it than agree with it; the kernel counts as one that agrees, if it says that the
// clock is synchronised. So one other machine whose clock is wrong does no harm
// here.
func (e *Evidence) Check(now time.Time, skew time.Duration) (confirmed bool, wrong error) {
	agree := 0
	if e.kernel() {
		agree, confirmed = 1, true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	contradict, worst := 0, ""
	for by, d := range e.dates {
		low, high, ok := d.offset(now, skew)
		switch {
		case !ok:
		case low > skew:
			contradict, worst = contradict+1, max(worst, fmt.Sprintf("it is %v ahead of that of %s", round(low), by))
		case high < -skew:
			contradict, worst = contradict+1, max(worst, fmt.Sprintf("it is %v behind that of %s", round(-high), by))
		case high-low <= 2*skew+time.Second:
			agree++
			confirmed = confirmed || d.corroborates
		}
	}
	if contradict > agree {
		return false, fmt.Errorf("%s", worst)
	}
	return confirmed, nil
}

// offset returns bounds of how far the clock is ahead at now, as far as d shows. ok
// is false if it does not any more: the clock was set, the machine has slept, or it
// was too long ago.
func (d date) offset(now time.Time, skew time.Duration) (low, high time.Duration, ok bool) {
	set := rotation.Jumped(d.Sent, now)
	if set.Abs() > skew || now.Sub(d.Received) > maxAge {
		return 0, 0, false
	}
	low, high = d.Offset()
	return low + set, high + set, true
}

// round keeps the text of an error the same from answer to answer.
func round(d time.Duration) time.Duration {
	if d > time.Hour {
		return d.Round(time.Minute)
	}
	return d.Round(10 * time.Second)
}
