package web

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of a connection. Documents are small and requests are smaller: a client
// that needs longer is not a relying party.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 10 * time.Second
	idleTimeout       = 90 * time.Second
	maxHeaderBytes    = 8 << 10

	// drainTimeout is how long running requests may take after the shutdown
	// starts.
	drainTimeout = 10 * time.Second
)

// Serve answers requests on l with h until ctx is done, then finishes the running
// requests and closes l. With secure it uses TLS, and HTTP/2 with clients that
// support it.
func Serve(ctx context.Context, l net.Listener, h http.Handler, secure *tls.Config, log *slog.Logger) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Errors of single connections, which any client can cause.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() {
		if secure == nil {
			served <- s.Serve(l)
			return
		}
		s.TLSConfig = secure
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
		log.Warn("closing connections whose requests have not finished", "listen", l.Addr().String(), "err", err)
		s.Close()
	}
	return nil
}
