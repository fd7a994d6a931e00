package signer_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"oidc-provider/internal/signer"
)

const otherIssuer = "https://other.example.test"

func newSockets(metrics prometheus.Registerer) *signer.Sockets {
	return signer.NewSockets(slog.New(slog.DiscardHandler), metrics)
}

func acquire(t *testing.T, s *signer.Sockets, path string) *signer.Socket {
	t.Helper()
	k, err := s.Acquire(t.Context(), path, issuer, signer.Access{})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSocketOutlivesItsKeys(t *testing.T) {
	all := newSockets(prometheus.NewRegistry())
	path := filepath.Join(socketDir(t), "s")
	first := acquire(t, all, path)
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check := func(timeout time.Duration) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
		return resp.GetStatus().String(), err
	}
	if _, err := check(50 * time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("before the first Use: %v, want a client that waits", err)
	}
	first.Use(t.Context(), signer.Access{}, newKeys(t, jose.ES256), 0)
	if got, err := check(10 * time.Second); got != "SERVING" {
		t.Errorf("after the first Use: %s, %v", got, err)
	}

	second := acquire(t, all, path)
	second.Use(t.Context(), signer.Access{}, &ringKeys{err: errors.New("no key")}, 0)
	if got, err := check(10 * time.Second); got != "NOT_SERVING" {
		t.Errorf("after the second Use: %s, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	first.Use(ended, signer.Access{}, newKeys(t, jose.ES256), 0)
	if got, err := check(10 * time.Second); got != "NOT_SERVING" {
		t.Errorf("Use after its context has ended: %s, %v", got, err)
	}

	all.Release(first)
	if got, err := check(10 * time.Second); got != "NOT_SERVING" || second.Context().Err() != nil {
		t.Errorf("after the first of two releases: %s, %v", got, err)
	}
	all.Release(second)
	all.Wait()
	if err := context.Cause(second.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("the cause of a socket that was released is %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the released socket: %v, want no file", err)
	}
}

func TestSocketOfAnotherIssuer(t *testing.T) {
	all := newSockets(prometheus.NewRegistry())
	path := filepath.Join(socketDir(t), "s")
	k := acquire(t, all, path)
	_, err := all.Acquire(t.Context(), path, otherIssuer, signer.Access{})
	if err == nil || !strings.Contains(err.Error(), "still signs for issuer "+issuer) {
		t.Errorf("got %v, want a refusal that names the issuer", err)
	}
	all.Release(nil) // what a failed Acquire returned
	all.Release(k)   // before any Use
	other, err := all.Acquire(t.Context(), path, otherIssuer, signer.Access{})
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	all.Release(other)
	all.Wait()
}

func TestSocketThatCannotBeOpened(t *testing.T) {
	all := newSockets(prometheus.NewRegistry())
	dir := socketDir(t)
	path := filepath.Join(dir, "missing", "s")
	if k, err := all.Acquire(t.Context(), path, issuer, signer.Access{}); err == nil || k != nil {
		t.Fatalf("got %v, %v, want an error", k, err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	all.Release(acquire(t, all, path))
}

var errRegister = errors.New("this metric exists")

// failsOnce refuses the first collector.
type failsOnce struct {
	prometheus.Registerer
	failed bool
}

func (f *failsOnce) Register(c prometheus.Collector) error {
	if !f.failed {
		f.failed = true
		return errRegister
	}
	return f.Registerer.Register(c)
}

func TestSocketThatBreaks(t *testing.T) {
	all := newSockets(&failsOnce{Registerer: prometheus.NewRegistry()})
	path := filepath.Join(socketDir(t), "s")
	k := acquire(t, all, path)
	k.Use(t.Context(), signer.Access{}, newKeys(t, jose.ES256), 0)
	select {
	case <-k.Context().Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the socket did not break")
	}
	if cause := context.Cause(k.Context()); !errors.Is(cause, errRegister) {
		t.Errorf("the cause is %v", cause)
	}

	again := acquire(t, all, path) // although the broken one is not released yet
	all.Release(k)
	again.Use(t.Context(), signer.Access{}, newKeys(t, jose.ES256), 0)
	if _, _, err := signer.Ask(t.Context(), path); err != nil {
		t.Errorf("after the socket was opened again: %v", err)
	}
	all.Release(again)
	all.Wait()
}
