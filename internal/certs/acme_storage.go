package certs

import (
	"context"
	"errors"
	"sync"

	"github.com/caddyserver/certmagic"
)

// files is a storage that can be closed: a lock that is left behind when a
// process ends holds up the next for some ten seconds.
type files struct {
	certmagic.FileStorage
	use sync.RWMutex // held for reading with each lock, and for writing by close, for good
}

var errStopped = errors.New("certificates are not looked after any more")

// close waits until all locks are given back, and grants no more.
func (f *files) close() { f.use.Lock() }

func (f *files) Lock(ctx context.Context, name string) error {
	if !f.use.TryRLock() {
		return errStopped
	}
	err := f.FileStorage.Lock(ctx, name)
	if err != nil {
		f.use.RUnlock()
	}
	return err
}

func (f *files) TryLock(ctx context.Context, name string) (bool, error) {
	if !f.use.TryRLock() {
		return false, errStopped
	}
	ok, err := f.FileStorage.TryLock(ctx, name)
	if !ok || err != nil {
		f.use.RUnlock()
	}
	return ok, err
}

func (f *files) Unlock(ctx context.Context, name string) error {
	defer f.use.RUnlock()
	return f.FileStorage.Unlock(ctx, name)
}
