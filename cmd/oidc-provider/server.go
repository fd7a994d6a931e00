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
	rotator  atomic.Pointer[rotation.Rotator] // nil until the ring was read
	waiting  atomic.Pointer[string]           // why it was not
	tried    chan struct{}                    // closed when one of them is known
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
// signer, and last the address that tells how it went. open is repeated as long
// as the store cannot be reached.
func (s *server) run(ctx context.Context, refreshHint time.Duration, open func(context.Context) (*rotation.Rotator, error)) error {
	// Whatever fails ends the rest.
	g, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, endServing := context.WithCancel(failed)
	adminServing, endAdmin := context.WithCancel(failed)
	defer endServing()
	defer endAdmin()

	s.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "oidc_provider_waiting",
		Help: "1 while the ring has not been read since the start: the other metrics of it are not there yet.",
	}, func() float64 {
		if s.rotator.Load() == nil {
			return 1
		}
		return 0
	}))
	if s.cert != nil {
		s.metrics.MustRegister(s.cert.Metric())
	}
	public, admin := web.Public(s.docs, s.metrics, s.log), web.Admin(s.checks(), s.metrics, s.log)
	g.Go(func() error { return web.Serve(adminServing, s.admin, admin, nil, s.log) })
	g.Go(func() error {
		parts, serving := errgroup.WithContext(serving)
		parts.Go(func() error {
			rotator, err := s.await(serving, open)
			if rotator == nil {
				return err
			}
			s.metrics.MustRegister(web.Rotation{Rotator: rotator})
			if s.rotator.Store(rotator); s.waiting.Load() == nil {
				close(s.tried)
			}
			if s.socket != nil {
				grpc := signer.NewServer(rotator, refreshHint)
				parts.Go(func() error { return grpc.Serve(serving, s.socket, s.metrics, s.log) })
			}
			rotator.Run(serving)
			return nil
		})
		if s.cert != nil {
			parts.Go(func() error { s.cert.Watch(serving, s.log); return nil })
		}
		parts.Go(func() error {
			// Who asks while a server starts waits, rather than hears that
			// there is nothing yet.
			select {
			case <-s.tried:
			case <-serving.Done():
			}
			return web.Serve(serving, s.public, public, s.cert, s.log)
		})
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

// retryOpen is the time between two attempts to reach the store for the first
// time.
const retryOpen = 500 * time.Millisecond

// await opens the ring. It returns nil, nil if serving ends before.
func (s *server) await(serving context.Context, open func(context.Context) (*rotation.Rotator, error)) (*rotation.Rotator, error) {
	for {
		rotator, err := open(serving)
		if err != nil && serving.Err() != nil {
			return nil, nil // what was cut short says nothing
		}
		if err == nil || !errors.Is(err, rotation.ErrUnavailable) {
			return rotator, err
		}
		reason := err.Error()
		before := s.waiting.Swap(&reason)
		if before == nil {
			close(s.tried)
		}
		if before == nil || *before != reason {
			s.log.Error("waiting for the store", "err", err)
		}
		select {
		case <-serving.Done():
			return nil, nil
		case <-time.After(retryOpen):
		}
	}
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
		{Name: "keys", Run: s.checkKeys},
		{Name: "rotation", Advisory: true, Run: s.checkRotation},
	}
	if s.cert != nil {
		checks = append(checks, s.cert.Check())
	}
	return checks
}

func (s *server) checkKeys() (string, error) {
	rotator := s.rotator.Load()
	if rotator == nil {
		if reason := s.waiting.Load(); reason != nil {
			return "", errors.New("the ring has not been read yet: " + *reason)
		}
		return "", errors.New("the ring has not been read yet")
	}
	now := time.Now()
	if err := rotator.Ready(now); err != nil {
		return "", err
	}
	ring := rotator.View().Ring()
	known := fmt.Sprintf("ring generation %d, read %v ago", ring.Generation, rotator.ReadAge(now).Round(time.Millisecond))
	if rotator.PublishOnly() {
		return fmt.Sprintf("%d keys published; %s", len(rotator.View().KeySet()), known), nil
	}
	signs, err := rotator.Signer(now)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s signs; %s", signs.Key.KeyID(), known), nil
}

func (s *server) checkRotation() (string, error) {
	rotator := s.rotator.Load()
	if rotator == nil {
		return "", errors.New("the ring has not been read yet")
	}
	if failure := rotator.Failure(); failure != "" {
		return "", errors.New(failure)
	}
	ring := rotator.View().Ring()
	standby := ring.Standby(ring.At(time.Now()))
	if standby == nil || standby.SignFrom.IsZero() {
		return "", errors.New("the next hand-over is not planned yet")
	}
	return fmt.Sprintf("%s signs from %s", standby.KeyID, formatTime(standby.SignFrom)), nil
}
