package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/internal/signer"
)

// sockets are the signer sockets of a process. One stays open while the ring
// behind it is opened anew with other settings: kube-apiserver notices nothing.
type sockets struct {
	log     *slog.Logger
	metrics prometheus.Registerer

	mu   sync.Mutex
	held map[string]*socket
	wg   sync.WaitGroup
}

// A socket is open as long as somebody has acquired it, and answers from the
// first use on: who connects before waits. ctx ends with it, for the cause that
// it could not be served.
type socket struct {
	all    *sockets
	path   string
	issuer string
	ctx    context.Context
	stop   context.CancelCauseFunc

	// Guarded by all.mu. A socket without a listener is being opened.
	users    int
	listener net.Listener
	server   *signer.Server // nil before the first use
}

// acquire opens the socket at path for issuer, which alone may acquire it again
// as long as it is held.
func (s *sockets) acquire(ctx context.Context, path, issuer string) (*socket, error) {
	k, err := s.reserve(path, issuer)
	if err != nil || k.listener != nil {
		return k, err
	}
	l, err := signer.Listen(ctx, path) // which may take a while
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.held, path)
		return nil, err
	}
	k.listener = l
	return k, nil
}

func (s *sockets) reserve(path, issuer string) (*socket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch k := s.held[path]; {
	case k == nil:
	case k.issuer != issuer:
		return nil, fmt.Errorf("signer socket %s: it still signs for issuer %s (hint: take it from that first, and give it to this one with a second change)", path, k.issuer)
	case k.listener == nil:
		return nil, fmt.Errorf("signer socket %s: it is being opened", path)
	case k.ctx.Err() == nil:
		k.users++
		return k, nil
	}
	k := &socket{all: s, path: path, issuer: issuer, users: 1}
	k.ctx, k.stop = context.WithCancelCause(context.Background())
	if s.held == nil {
		s.held = make(map[string]*socket)
	}
	s.held[path] = k
	return k, nil
}

// release lets go of what acquire returned, if it did.
func (s *sockets) release(k *socket) {
	if k == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.users--; k.users > 0 {
		return
	}
	if s.held[k.path] == k {
		delete(s.held, k.path)
	}
	k.stop(nil)
	if k.server == nil {
		k.listener.Close() // else the server does that
	}
}

// use answers with keys from now on.
func (k *socket) use(ctx context.Context, keys signer.Keys, refreshHint time.Duration) {
	k.all.mu.Lock()
	defer k.all.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if k.server != nil {
		k.server.Use(keys, refreshHint)
		return
	}
	k.server = signer.NewServer(keys, refreshHint)
	metrics := prometheus.WrapRegistererWith(prometheus.Labels{"issuer": k.issuer}, k.all.metrics)
	k.all.wg.Go(func() {
		k.stop(k.server.Serve(k.ctx, k.listener, metrics, k.all.log))
	})
}

// wait returns when every socket that was released is closed.
func (s *sockets) wait() { s.wg.Wait() }
