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

// Limits of a connection. Documents are small and requests smaller: whoever
// needs longer is not a relying party.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 10 * time.Second
	idleTimeout       = 90 * time.Second
	maxHeaderBytes    = 8 << 10

	// drainTimeout is how long requests may go on after the end was
	// announced.
	drainTimeout = 10 * time.Second
)

// Serve answers requests on l with h until ctx is done, then lets the requests
// under way finish and closes l. With secure it speaks TLS, and HTTP/2 to those
// who can.
func Serve(ctx context.Context, l net.Listener, h http.Handler, secure *tls.Config, log *slog.Logger) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// What strangers do to their connections is of no interest.
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
		log.Warn("closing connections whose requests do not end", "listen", l.Addr().String(), "err", err)
		s.Close()
	}
	return nil
}
