package httpclient

import (
	"net/http"
	"time"
)

// A Date is the time that a server has shown in an answer, with the times of this
// machine's clock between which it did.
type Date struct{ Shown, Sent, Received time.Time }

// DateOf returns the Date of an answer with header, zero if there is none, or if
// the answer comes from a cache and shows the time at which it was stored.
func DateOf(header http.Header, sent, received time.Time) Date {
	shown, err := http.ParseTime(header.Get("Date"))
	if err != nil || header.Get("Age") != "" {
		return Date{}
	}
	return Date{shown, sent, received}
}

// Offset returns bounds of how far this machine's clock is ahead of the server's. A
// Date has a resolution of one second.
func (d Date) Offset() (low, high time.Duration) {
	return d.Sent.Sub(d.Shown) - time.Second, d.Received.Sub(d.Shown)
}
