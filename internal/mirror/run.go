package mirror

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// wakeStep is what the ends of waits are rounded down to: ten thousand mirrors
	// that wake a few hundred at a time cost a fifth of what they cost one by one.
	wakeStep = 50 * time.Millisecond

	// fileShare is the least interval of mirrors of files, for each of them that
	// runs.
	fileShare = 500 * time.Microsecond
)

// fileMirrors counts the mirrors of files that run in this process.
var fileMirrors atomic.Int64

// Run fetches now, and then every Interval until ctx is done.
func (m *Mirror) Run(ctx context.Context) {
	if _, ok := m.cfg.Source.(*Files); ok {
		fileMirrors.Add(1)
		defer fileMirrors.Add(-1)
	}
	for ctx.Err() == nil {
		_ = m.Refresh(ctx) // which has reported it
		select {
		case <-ctx.Done():
		case <-time.After(m.wait(time.Now())):
		}
	}
}

// wait returns the time from now to the next fetch: the interval, plus or minus a
// tenth.
func (m *Mirror) wait(now time.Time) time.Duration {
	interval := m.cfg.Interval
	if _, ok := m.cfg.Source.(*Files); ok {
		interval = max(interval, time.Duration(fileMirrors.Load())*fileShare)
	}
	wait := interval*9/10 + rand.N(interval/5+1)
	if wait < 10*wakeStep {
		return wait
	}
	return now.Add(wait).Truncate(wakeStep).Sub(now.Round(0))
}
