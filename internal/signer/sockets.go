package signer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/internal/hint"
)

// Sockets holds the signer sockets of a process. A socket stays open while its
// ring is opened again with other settings: kube-apiserver notices nothing.
type Sockets struct {
	log     *slog.Logger
	metrics prometheus.Registerer

	mu   sync.Mutex
	held map[string]*Socket // by path
	wg   sync.WaitGroup
}

// NewSockets returns a Sockets that logs to log and registers the metrics of each
// socket, with the label issuer, at metrics.
func NewSockets(log *slog.Logger, metrics prometheus.Registerer) *Sockets {
	return &Sockets{log: log, metrics: metrics, held: make(map[string]*Socket)}
}

// A Socket is open from [Sockets.Acquire] to the last [Sockets.Release], and
// answers from the first [Socket.Use]: until then clients that connect wait.
type Socket struct {
	all    *Sockets
	path   string
	issuer string
	ctx    context.Context
	stop   context.CancelCauseFunc

	// Guarded by all.mu. A socket without a listener is being opened.
	users    int
	listener *Listener
	server   *Server // nil before the first Use
}

// Context is done when the socket is closed. If that is because it could not be
// served, [context.Cause] returns why.
func (k *Socket) Context() context.Context { return k.ctx }

// Acquire opens the socket at path for issuer, and for the clients that access
// admits. Until it is released, the same issuer can acquire it again, and others
// cannot. The access of a socket that is open stays the same until [Socket.Use].
func (s *Sockets) Acquire(ctx context.Context, path, issuer string, access Access) (*Socket, error) {
	k, err := s.reserve(path, issuer)
	if err != nil || k.listener != nil {
		return k, err
	}
	log := s.log.With("issuer", issuer)
	l, err := Listen(ctx, path, access, log) // this may take a while
	if err == nil {
		access.warn(path, log)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.held, path)
		return nil, err
	}
	k.listener = l
	return k, nil
}

func (s *Sockets) reserve(path, issuer string) (*Socket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch k := s.held[path]; {
	case k == nil:
	case k.issuer != issuer:
		return nil, hint.Errorf("remove {signerSocket} from that issuer first, and set it for this one in a second change",
			"signer socket %s: it still signs for issuer %s", path, k.issuer)
	case k.listener == nil:
		return nil, fmt.Errorf("signer socket %s: it is being opened", path)
	case k.ctx.Err() == nil:
		k.users++
		return k, nil
	}
	k := &Socket{all: s, path: path, issuer: issuer, users: 1}
	k.ctx, k.stop = context.WithCancelCause(context.Background())
	s.held[path] = k
	return k, nil
}

// Release undoes one Acquire, and closes the socket with the last. k may be nil.
func (s *Sockets) Release(k *Socket) {
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

// Use answers with keys from now on, and admits clients by access, unless ctx is
// done. See [NewServer]. If the access cannot be changed, it stays as it was.
func (k *Socket) Use(ctx context.Context, access Access, keys Keys, refreshHint time.Duration) error {
	k.all.mu.Lock()
	defer k.all.mu.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	err := k.listener.Admit(access)
	if k.server != nil {
		k.server.Use(keys, refreshHint)
		return err
	}
	k.server = NewServer(keys, refreshHint, k.all.log.With("issuer", k.issuer))
	metrics := prometheus.WrapRegistererWith(prometheus.Labels{"issuer": k.issuer}, k.all.metrics)
	k.all.wg.Go(func() {
		k.stop(k.server.Serve(k.ctx, k.listener, metrics))
	})
	return err
}

// Wait returns when every socket that was released is closed.
func (s *Sockets) Wait() { s.wg.Wait() }
