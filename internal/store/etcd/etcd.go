// Package etcd keeps a ring under one key of an etcd cluster. [Parse] reads
// what --store says, [TLSConfig] the certificates, and [New] makes the store.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"oidc-provider/rotation"
)

const (
	// patience is how long one member has to answer before the next is asked
	// as well: ten times what a member takes that is well.
	patience = 300 * time.Millisecond
	// attemptTimeout is how long one request waits, or one connection.
	attemptTimeout = time.Second
	loadTimeout    = 3 * time.Second
	swapTimeout    = 5 * time.Second
)

// Config says where a ring is and who asks for it.
type Config struct {
	// Endpoints are the client addresses of the members, as host:port or as
	// URLs (http, https, unix). Name all of them, the nearest first: it is
	// the one that is asked for as long as it answers.
	Endpoints []string

	// Key is the one key that is read and written, like /oidc-provider/ring.
	Key string

	// TLS is for the connections to all endpoints. Nil means none, with the
	// ring in clear text on the network.
	TLS *tls.Config

	// Username and Password are for a cluster with authentication, unless
	// the client certificate names the user. Both or none.
	Username, Password string
}

// A Store is the value of one key in etcd, its version the key's ModRevision.
// It implements [rotation.Watcher].
type Store struct {
	key     string
	members []*member
	best    atomic.Int32 // index of the member that has answered last
}

var _ rotation.Watcher = (*Store)(nil)

// New makes a store. It does not connect: etcd may come up later.
func New(cfg Config) (*Store, error) {
	if len(cfg.Endpoints) == 0 || cfg.Key == "" {
		return nil, errors.New("etcd: no endpoints or no key (hint: --store etcd://HOST:2379/PREFIX)")
	}
	if (cfg.Username == "") != (cfg.Password == "") {
		return nil, errors.New("etcd: user name and password go together (hint: --etcd-user and --etcd-password-file; leave out both if the client certificate names the user)")
	}
	s := &Store{key: cfg.Key}
	for _, e := range cfg.Endpoints {
		// The client would go by the scheme, whatever else is configured.
		if strings.HasPrefix(e, "http:") && cfg.TLS != nil || strings.HasPrefix(e, "https:") && cfg.TLS == nil {
			return nil, fmt.Errorf("etcd: endpoint %s does not fit the TLS settings (hint: etcds:// is with TLS, etcd:// without)", e)
		}
		s.members = append(s.members, newMember(cfg, e))
	}
	return s, nil
}

// Close closes the connections. The store cannot be used afterwards.
func (s *Store) Close() error {
	var errs []error
	for _, m := range s.members {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// Load implements [rotation.Store]. It gives up after three seconds.
func (s *Store) Load(ctx context.Context) ([]byte, rotation.Version, error) {
	a, err := s.ask(ctx)
	if err != nil {
		return nil, "", s.failure(ctx, "reading", err)
	}
	return a.data, a.version(), nil
}

// ask returns the first answer of any member. The member that has answered
// last is asked first, and the next one when that takes too long. clientv3's
// own balancer takes one with a live connection at random, which a member that
// is paused keeps for a long time.
func (s *Store) ask(ctx context.Context) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	first := int(s.best.Load())
	answers := make(chan *answer, len(s.members))
	for n := range s.members {
		m := s.members[(first+n)%len(s.members)]
		go func() { answers <- m.ask(ctx, time.Duration(n)*patience) }()
	}
	var failed failures
	for range s.members {
		a := <-answers
		if a.err == nil {
			s.prefer(a.member)
			return a, nil
		}
		failed = append(failed, a)
	}
	return nil, failed
}

func (s *Store) prefer(best *member) {
	for i, m := range s.members {
		if m == best {
			s.best.Store(int32(i))
		}
	}
}

// Swap implements [rotation.Store]. It reads first: the write is then sent to
// a member that has just answered, once and to no other. Sent again after it
// may have been done, it would conflict with itself.
func (s *Store) Swap(parent context.Context, data []byte, old rotation.Version) error {
	const doing = "writing"
	a, err := s.ask(parent)
	if err != nil {
		return s.failure(parent, doing, err)
	}
	if a.version() != old {
		return rotation.ErrConflict
	}
	ctx, cancel := context.WithTimeout(parent, swapTimeout)
	defer cancel()
	resp, err := a.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(s.key), "=", a.revision)).
		Then(clientv3.OpPut(s.key, string(data))).
		Commit()
	switch {
	case tooLarge(err):
		return fmt.Errorf("writing %s in etcd: its %d bytes are more than %s takes; nothing was written (hint: raise --max-request-bytes, by default 1.5 MiB, of every member, or rotate less often: retired keys make the ring grow)", s.key, len(data), a.member.endpoint)
	case err != nil:
		a.err = err
		return s.failure(parent, doing, failures{a})
	case !resp.Succeeded:
		return rotation.ErrConflict
	}
	return nil
}
