package web

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of a connection. Documents are small and requests are smaller: a client
// that needs longer is not a relying party.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 10 * time.Second
	maxHeaderBytes    = 8 << 10

	// drainTimeout is how long running requests may take after the shutdown
	// starts.
	drainTimeout = 10 * time.Second
)

// http2Limits are the least that the protocol allows, or what a few requests at a
// time need. No request has a body.
var http2Limits = http.HTTP2Config{
	MaxConcurrentStreams:          8,
	MaxReadFrameSize:              16 << 10,
	MaxReceiveBufferPerConnection: 64 << 10,
	MaxReceiveBufferPerStream:     16 << 10,
	MaxDecoderHeaderTableSize:     4 << 10,
	MaxEncoderHeaderTableSize:     4 << 10,
	WriteByteTimeout:              writeTimeout,
}

// ServeConfig is what [Serve] needs.
type ServeConfig struct {
	Listener net.Listener
	Handler  http.Handler
	// TLS may be nil. It makes Listener speak TLS, and HTTP/2 with clients that support it.
	TLS    *tls.Config
	Limits Limits
	// Metrics is where what the limits do is counted. May be nil.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Serve answers requests until ctx is done, then finishes the running requests and
// closes the listener.
func Serve(ctx context.Context, cfg ServeConfig) error {
	l := newLimiter(cfg)
	protocol := http2Limits
	s := &http.Server{
		Handler:           cfg.Handler,
		TLSConfig:         cfg.TLS,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       -1, // see limiter.expire
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &protocol,
		ConnState:         l.observe,
		// Errors of single connections, which any client can cause.
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	expiring, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go l.expire(expiring)
	served := make(chan error, 1)
	go func() {
		if cfg.TLS == nil {
			served <- s.Serve(l)
			return
		}
		served <- s.ServeTLS(l, "", "")
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serving %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := s.Shutdown(drain); err != nil {
		cfg.Log.Warn("closing connections whose requests have not finished", "listen", l.Addr().String(), "err", err)
		s.Close()
	}
	return nil
}
