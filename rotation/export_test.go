package rotation

import (
	"context"
	"time"
	"unsafe"
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

// Changed makes r one that must be sealed again, as every change does.
func (r *Ring) Changed() { r.source = nil }

// Struck reports whether a [Revocation] takes the key away.
func (k *Key) Struck() bool { return k.struck }

// Reading returns the time that a clock shows when its monotonic clock has run for
// the given time: what [time.Now] returns on a machine whose clock is set.
func Reading(wall time.Time, monotonic time.Duration) time.Time {
	const hasMonotonic = 1 << 63
	since := wall.Unix() - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	t := time.Time{}
	raw := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t))
	raw.wall = hasMonotonic | uint64(since)<<30 | uint64(wall.Nanosecond())
	raw.ext = int64(monotonic) + 1
	return t
}
