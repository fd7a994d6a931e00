package secret

import (
	"context"
	"errors"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// connectTimeout is how long one request waits for a connection. A connection that was
// started during a network outage may never complete; a new one completes soon after
// the outage. A connection that is only slow serves the next request.
const connectTimeout = time.Second

var errNoConnection = errors.New("no connection within a second")

// track limits the time in which a request must get a connection. It closes all
// connections if the deadline of parent passes before done is called: they may lead to
// a server that no longer exists, which TCP notices only after minutes.
func (s *Store) track(parent context.Context) (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(parent)
	var connected atomic.Bool
	waiting := time.AfterFunc(connectTimeout, func() { cancel(errNoConnection) })
	waiting.Stop() // getting credentials, which comes first, may take longer
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
