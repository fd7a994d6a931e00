package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"oidc-provider/rotation"
	"oidc-provider/signer"
	"oidc-provider/web"
)

// A server is the parts of `serve` that run side by side.
type server struct {
	log     *slog.Logger
	metrics *prometheus.Registry
	delay   time.Duration // between not ready and not there

	public, admin, socket net.Listener // socket may be nil
	cert                  *web.Certificate

	docs     *web.Documents
	rotator  *rotation.Rotator
	stopping atomic.Bool
}

// bind opens every address and loads the certificate.
func (s *server) bind(ctx context.Context, o *serveOptions) (err error) {
	if o.tlsCert != "" {
		if s.cert, err = web.LoadCertificate(o.tlsCert, o.tlsKey); err != nil {
			return err
		}
	}
	if s.public, err = listen(ctx, "listen", o.listen); err != nil {
		return err
	}
	if s.admin, err = listen(ctx, "admin-listen", o.adminListen); err != nil {
		return err
	}
	if o.signerSocket != "" {
		s.socket, err = signer.Listen(ctx, o.signerSocket)
	}
	return err
}

func listen(ctx context.Context, flag, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--%s: %w (hint: something else runs there; name another address with --%s)", flag, err, flag)
	case err != nil:
		return nil, fmt.Errorf("--%s: %w (hint: an address looks like 127.0.0.1:8080 or :8080)", flag, err)
	}
	return l, nil
}

// closeListeners is for the ways out on which nobody has served them.
func (s *server) closeListeners() {
	for _, l := range []net.Listener{s.public, s.admin, s.socket} {
		if l != nil {
			l.Close()
		}
	}
}

// run serves until ctx is done, and then stops in the order that lets nobody
// down: readiness goes first, then, after the delay, the documents and the
// signer, and last the address that tells how it went.
func (s *server) run(ctx context.Context, refreshHint time.Duration) error {
	// Whatever fails ends the rest.
	g, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, endServing := context.WithCancel(failed)
	adminServing, endAdmin := context.WithCancel(failed)
	defer endServing()
	defer endAdmin()

	s.metrics.MustRegister(web.Rotation{Rotator: s.rotator})
	if s.cert != nil {
		s.metrics.MustRegister(s.cert.Metric())
	}
	public, admin := web.Public(s.docs, s.metrics, s.log), web.Admin(s.checks(), s.metrics, s.log)
	g.Go(func() error { return web.Serve(adminServing, s.admin, admin, nil, s.log) })
	g.Go(func() error {
		parts, serving := errgroup.WithContext(serving)
		parts.Go(func() error { s.rotator.Run(serving); return nil })
		if s.cert != nil {
			parts.Go(func() error { s.cert.Watch(serving, s.log); return nil })
		}
		parts.Go(func() error { return web.Serve(serving, s.public, public, s.cert, s.log) })
		if s.socket != nil {
			grpc := &signer.Server{Keys: s.rotator, RefreshHint: refreshHint}
			parts.Go(func() error { return grpc.Serve(serving, s.socket, s.metrics, s.log) })
		}
		err := parts.Wait()
		endAdmin()
		return err
	})
	g.Go(func() error {
		select {
		case <-failed.Done():
			return nil
		case <-ctx.Done():
		}
		s.stopping.Store(true)
		s.log.Info("stopping: not ready any more; a second signal stops at once", "delay", s.delay)
		select {
		case <-failed.Done():
		case <-time.After(s.delay):
		}
		endServing()
		return nil
	})
	err := g.Wait()
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}

// checks are what /readyz looks at.
func (s *server) checks() []web.Check {
	checks := []web.Check{
		{Name: "shutdown", Run: func() (string, error) {
			if s.stopping.Load() {
				return "", errors.New("the process is stopping")
			}
			return "running", nil
		}},
		{Name: "keys", Run: func() (string, error) {
			now := time.Now()
			if err := s.rotator.Ready(now); err != nil {
				return "", err
			}
			signs, err := s.rotator.Signer(now)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%s signs; ring generation %d, read %v ago", signs.Key.KeyID(),
				s.rotator.View().Ring().Generation, s.rotator.ReadAge(now).Round(time.Millisecond)), nil
		}},
		{Name: "rotation", Advisory: true, Run: func() (string, error) {
			if failure := s.rotator.Failure(); failure != "" {
				return "", errors.New(failure)
			}
			ring := s.rotator.View().Ring()
			standby := ring.Standby(ring.At(time.Now()))
			if standby == nil || standby.SignFrom.IsZero() {
				return "", errors.New("the next hand-over is not planned yet")
			}
			return fmt.Sprintf("%s signs from %s", standby.KeyID, formatTime(standby.SignFrom)), nil
		}},
	}
	if s.cert != nil {
		checks = append(checks, s.cert.Check())
	}
	return checks
}
