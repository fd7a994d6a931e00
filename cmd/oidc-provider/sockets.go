package main

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/signer"
)

// sockets are the signer sockets of a process. One stays open while the ring
// behind it is opened anew with other settings: kube-apiserver notices nothing.
type sockets struct {
	log     *slog.Logger
	metrics prometheus.Registerer
	failed  func(error) // told of a socket that cannot be served any more

	mu   sync.Mutex
	open map[string]*socket
	wg   sync.WaitGroup
}

// A socket is open as long as somebody has acquired it, and answers from the
// first use on: who connects before waits.
type socket struct {
	all      *sockets
	path     string
	issuer   string
	listener net.Listener
	users    int

	mu     sync.Mutex
	server *signer.Server     // nil before the first use
	stop   context.CancelFunc // of server
}

func (s *sockets) acquire(ctx context.Context, path, issuer string) (*socket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.open[path]; known != nil {
		known.users++
		return known, nil
	}
	l, err := signer.Listen(ctx, path)
	if err != nil {
		return nil, err
	}
	opened := &socket{all: s, path: path, issuer: issuer, listener: l, users: 1}
	if s.open == nil {
		s.open = make(map[string]*socket)
	}
	s.open[path] = opened
	return opened, nil
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
	delete(s.open, k.path)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.server == nil {
		k.listener.Close()
		return
	}
	k.stop() // which closes it
}

// use answers with keys from now on.
func (k *socket) use(keys signer.Keys, refreshHint time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.server != nil {
		k.server.Use(keys, refreshHint)
		return
	}
	k.server = signer.NewServer(keys, refreshHint)
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	metrics := prometheus.WrapRegistererWith(prometheus.Labels{"issuer": k.issuer}, k.all.metrics)
	k.all.wg.Go(func() {
		if err := k.server.Serve(ctx, k.listener, metrics, k.all.log); err != nil {
			k.all.failed(err)
		}
	})
}

// wait returns when every socket that was released is closed.
func (s *sockets) wait() { s.wg.Wait() }
