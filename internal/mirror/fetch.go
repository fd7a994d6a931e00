package mirror

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// Bounds of one fetch.
const (
	fetchTimeout = 10 * time.Second
	// grace is the time that a source has to return once its context is done.
	grace = time.Second
	// maxDocument bounds what is read of an answer or a file: far above what any
	// relying party reads.
	maxDocument = 1 << 20
)

// An answer is what a source returned.
type answer struct {
	keys    []jwks.PublicKey
	skipped []error
	err     error
}

// fetch asks the source, and does not wait for one that ignores its context, like
// a network file system or a credential plugin that the kubeconfig names. It asks
// again only when that call has returned. The goroutine keeps the stack of the
// caller small, which exists as long as the mirror.
func (m *Mirror) fetch(parent context.Context) answer {
	if m.hanging != nil {
		select {
		case <-m.hanging: // its answer is too old
			m.hanging = nil
		default:
			err := hint.Wrap(errors.New("a previous attempt still hangs"),
				"is it on a network file system, or does a credential plugin wait for something?")
			return answer{err: m.fetching(err)}
		}
	}
	ctx, cancel := context.WithTimeout(parent, fetchTimeout)
	defer cancel()
	done := make(chan answer, 1)
	go func() {
		var a answer
		if a.keys, a.skipped, a.err = m.cfg.Source.Fetch(ctx); a.err != nil {
			a.err = m.fetching(a.err)
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
		m.hanging = done
		return answer{err: m.fetching(fmt.Errorf("no answer in time: %w", ctx.Err()))}
	}
}

func (m *Mirror) fetching(err error) error {
	return fmt.Errorf("fetching keys from %s: %w", m.cfg.Source, err)
}

// readSlots bounds how many mirrors read key files at once, and writeSlots how many
// write their state: each of them that waits for a disk is a thread. Key files that
// hang must not stop other mirrors from writing.
var (
	readSlots  = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	writeSlots = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
)

// parseSlots bounds how many key sets are parsed at once. That costs up to 20 times
// the size of a key set, and takes milliseconds.
var parseSlots = make(chan struct{}, runtime.GOMAXPROCS(0))

func parse(data []byte) (keys []jwks.PublicKey, skipped []error, err error) {
	parseSlots <- struct{}{}
	defer func() { <-parseSlots }()
	return jwks.Filter(data)
}

func acquire(ctx context.Context, slots chan struct{}) (release func(), err error) {
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, hint.Errorf("is a file of another mirror on a network file system that is unavailable?",
			"waiting for other mirrors' files: %w", ctx.Err())
	}
}
