package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Synchronised reports whether the kernel says that its clock is synchronised, as
// by NTP or PTP. It costs one system call, which changes nothing and may be
// forbidden.
func Synchronised() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil || state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return false
	}
	fraction := time.Duration(t.Time.Usec) * time.Microsecond
	if t.Status&unix.STA_NANO != 0 {
		fraction = time.Duration(t.Time.Usec)
	}
	// Its word is about this clock only if they show the same time.
	return time.Since(time.Unix(t.Time.Sec, 0).Add(fraction)).Abs() < time.Second
}
