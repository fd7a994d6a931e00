package certs

import (
	"context"
	"errors"
	"sync"

	"github.com/caddyserver/certmagic"
)

// storage is a FileStorage that can be closed: a lock that a process leaves
// behind when it ends delays the next one by about ten seconds.
type storage struct {
	certmagic.FileStorage
	use sync.RWMutex // held for reading with each lock, and for writing from close on
}

var errStopped = errors.New("certificates are no longer obtained or renewed")

// close waits until all locks are released, and grants no more.
func (s *storage) close() { s.use.Lock() }

func (s *storage) Lock(ctx context.Context, name string) error {
	if !s.use.TryRLock() {
		return errStopped
	}
	err := s.FileStorage.Lock(ctx, name)
	if err != nil {
		s.use.RUnlock()
	}
	return err
}

func (s *storage) TryLock(ctx context.Context, name string) (bool, error) {
	if !s.use.TryRLock() {
		return false, errStopped
	}
	ok, err := s.FileStorage.TryLock(ctx, name)
	if !ok || err != nil {
		s.use.RUnlock()
	}
	return ok, err
}

func (s *storage) Unlock(ctx context.Context, name string) error {
	defer s.use.RUnlock()
	return s.FileStorage.Unlock(ctx, name)
}
