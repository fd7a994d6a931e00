package mirror

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"oidc-provider/jwks"
)

// Bounds of one fetch.
const (
	fetchTimeout = 10 * time.Second
	// grace is what a source has to end in once its context is done.
	grace = time.Second
)

// An answer is what a source returned.
type answer struct {
	keys    []jwks.PublicKey
	skipped []error
	err     error
}

// fetch asks the source. It waits no longer for one that does not heed its
// context either, like a network file system or a plugin that the kubeconfig
// names, but then asks nothing more until that has come back. The goroutine
// keeps the stack of the one that calls small, which is there for as long as
// the mirror.
func (m *Mirror) fetch(parent context.Context) answer {
	if m.stuck != nil {
		select {
		case <-m.stuck: // too old by now
			m.stuck = nil
		default:
			return answer{err: fmt.Errorf("fetching keys from %s: an earlier attempt still hangs (hint: is it on a network file system, or does a credential plugin wait for something?)", m.cfg.Source)}
		}
	}
	ctx, cancel := context.WithTimeout(parent, fetchTimeout)
	defer cancel()
	done := make(chan answer, 1)
	go func() {
		var a answer
		if a.keys, a.skipped, a.err = m.cfg.Source.Fetch(ctx); a.err != nil {
			a.err = fmt.Errorf("fetching keys from %s: %w", m.cfg.Source, a.err)
		}
		done <- a
	}()
	select {
	case a := <-done:
		return a
	case <-ctx.Done():
	}
	select {
	case a := <-done:
		return a
	case <-time.After(grace):
		m.stuck = done
		return answer{err: fmt.Errorf("fetching keys from %s: no answer in time: %w", m.cfg.Source, ctx.Err())}
	}
}

// disk bounds how many mirrors read key files at once, and states how many read
// or write what they keep: each that waits for a disk is a thread. Files that
// hang must not keep other mirrors from keeping theirs.
var (
	disk   = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	states = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
)

func acquire(ctx context.Context, places chan struct{}) (release func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other files to be read: %w (hint: is a file of some mirror on a network file system that is away?)", ctx.Err())
	}
}
