package secret

import (
	"context"
	"errors"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// connectTimeout is how long one request waits for a connection. Those that
// were begun while the network was away may never come about; a new one that
// is begun when it is back does so at once. One that is merely slow serves the
// next request.
const connectTimeout = time.Second

var errNoConnection = errors.New("no connection within a second")

// track bounds what ctx gives a request for its connection, and drops all
// connections if ctx is over before the request is done: they may lead to a
// server that is gone, which TCP notices only after minutes.
func (s *Store) track(parent context.Context) (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(parent)
	var connected atomic.Bool
	waiting := time.AfterFunc(connectTimeout, func() { cancel(errNoConnection) })
	waiting.Stop() // finding credentials first may take longer
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { waiting.Reset(connectTimeout) },
		GotConn: func(httptrace.GotConnInfo) {
			waiting.Stop()
			connected.Store(true)
		},
	})
	return ctx, func() {
		if connected.Load() && parent.Err() == context.DeadlineExceeded {
			s.server.CloseConnections()
		}
		cancel(nil)
	}
}
