// Package etcd keeps a ring under one key of an etcd cluster. [Parse] reads the
// address of a store, [TLSConfig] the certificates, and [New] returns the store.
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

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

const (
	// patience is how long a member may take to answer before the next member is
	// asked as well: ten times what a healthy member takes.
	patience = 300 * time.Millisecond
	// attemptTimeout limits one request, and one attempt to connect.
	attemptTimeout = time.Second
	loadTimeout    = 3 * time.Second
	swapTimeout    = 5 * time.Second
)

// Config names a key of an etcd cluster and the credentials for it.
type Config struct {
	// Endpoints are the client addresses of the members, as host:port or as
	// URLs (http, https, unix). List all members, the nearest first: the first
	// one serves all reads for as long as it answers. Required.
	Endpoints []string

	// Key is the only key that is read and written, such as
	// /oidc-provider/ring. Required.
	Key string

	// TLS configures the connections to all endpoints. Nil means no TLS: the
	// ring crosses the network in clear text.
	TLS *tls.Config

	// Username and Password log in to a cluster with authentication. Set both,
	// or neither if the client certificate names the user.
	Username, Password string
}

// A Store is the value of one key in etcd; its version is the ModRevision of the
// key. It implements [rotation.Watcher].
type Store struct {
	key     string
	members []*member
	best    atomic.Int32 // index of the member that answered last
}

var _ rotation.Watcher = (*Store)(nil)

// New returns the store that cfg names. It does not connect: etcd may start
// later.
func New(cfg Config) (*Store, error) {
	if len(cfg.Endpoints) == 0 || cfg.Key == "" {
		return nil, hint.Errorf("set {store} to etcd://HOST:2379/PREFIX", "etcd: no endpoints or no key")
	}
	s := &Store{key: cfg.Key}
	for _, e := range cfg.Endpoints {
		s.members = append(s.members, newMember(cfg, e))
	}
	if (cfg.Username == "") != (cfg.Password == "") {
		return nil, hint.Errorf("set both {etcd.user} and {etcd.passwordFile}, or neither if the certificate names the user",
			"%v: a user name without a password, or the reverse", s)
	}
	for _, e := range cfg.Endpoints {
		// The client follows the scheme of the endpoint and ignores cfg.TLS.
		if strings.HasPrefix(e, "http:") && cfg.TLS != nil || strings.HasPrefix(e, "https:") && cfg.TLS == nil {
			return nil, hint.Errorf("write {store} as etcds://… to use TLS, as etcd://… to use none",
				"%v: endpoint %s contradicts the TLS settings", s, e)
		}
	}
	return s, nil
}

// String names the key and all endpoints.
func (s *Store) String() string {
	var endpoints []string
	for _, m := range s.members {
		endpoints = append(endpoints, m.endpoint)
	}
	return fmt.Sprintf("etcd key %s at %s", s.key, strings.Join(endpoints, ", "))
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
	a, failed := s.ask(ctx)
	if failed != nil {
		return nil, "", s.failure(ctx, "reading", failed)
	}
	return a.data, a.version(), nil
}

// ask returns the first answer of any member. It asks the member that answered
// last, and the next one if that takes too long. clientv3's own balancer chooses
// at random among members with an open connection, and a paused member keeps its
// connections open for a long time.
func (s *Store) ask(ctx context.Context) (*answer, failures) {
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

// Swap implements [rotation.Store]. It reads first, so that the write goes to a
// member that has just answered. The write is sent once, to that member only: a
// second attempt after a first that succeeded would conflict with it.
func (s *Store) Swap(parent context.Context, data []byte, old rotation.Version) error {
	a, failed := s.ask(parent)
	if failed != nil {
		return s.failure(parent, "writing", failed)
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
		return hint.Errorf("raise etcd's --max-request-bytes (default 1.5 MiB) on every member, or rotate less often: "+
			"retired keys make the ring grow",
			"writing %v: the %d bytes are more than %s accepts; nothing was written", s, len(data), a.member.endpoint)
	case err != nil:
		a.err = err
		return s.failure(parent, "writing", failures{a})
	case !resp.Succeeded:
		return rotation.ErrConflict
	}
	return nil
}
