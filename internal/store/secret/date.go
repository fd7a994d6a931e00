package secret

import (
	"net/http"
	"time"

	"oidc-provider/internal/httpclient"
)

// Date returns the time that the API server showed in its last answer, zero if it
// has not answered yet.
func (s *Store) Date() httpclient.Date {
	if d := s.date.Load(); d != nil {
		return *d
	}
	return httpclient.Date{}
}

// noteDates keeps the Date of every answer from now on.
func (s *Store) noteDates() { s.server.Client.Transport = &dated{s.server.Client.Transport, s} }

type dated struct {
	next  http.RoundTripper
	store *Store
}

func (t *dated) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := time.Now()
	resp, err := t.next.RoundTrip(req)
	if err == nil {
		if d := httpclient.DateOf(resp.Header, sent, time.Now()); !d.Shown.IsZero() {
			t.store.date.Store(&d)
		}
	}
	return resp, err
}
