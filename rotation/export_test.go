package rotation

import (
	"context"
	"time"
)

// OpenAt and Tick let the simulation give each replica a clock of its own.

func OpenAt(ctx context.Context, cfg Config, now time.Time) (*Rotator, error) {
	return open(ctx, cfg, func() time.Time { return now })
}

func (r *Rotator) Tick(ctx context.Context, now time.Time) (again bool, err error) {
	again, err = r.tick(ctx, now)
	r.report(again, err)
	return again, err
}

func (v *View) Pending() *Ring { return v.pending }

// LastRead returns when the ring was last read, on the replica's clock: another
// pointer each time.
func (r *Rotator) LastRead() *time.Time { return r.read.Load() }
