package input

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"oidc-provider/internal/hint"
)

// ErrHangs is wrapped by the errors of files that do not answer, as on a network
// file system whose server is unavailable.
var ErrHangs = errors.New("the file system does not answer")

const (
	// patience is how long a call may take while no other hangs. Each one that
	// hangs halves it for the others, down to leastPatience, so that many of them
	// do not delay those that answer.
	patience      = time.Second
	leastPatience = 10 * time.Millisecond

	// maxHanging bounds how many calls hang, since each of them is a thread.
	maxHanging = 64
)

// hanging has the calls that are waited for no longer.
var hanging = struct {
	sync.Mutex
	since map[string]time.Time // by path
}{since: make(map[string]time.Time)}

// Bounded returns what call returns, which works on the file or directory at path.
// If that takes too long, it returns an error that wraps [ErrHangs] and names the
// path, and so does every other call for that path until the first one has
// returned. The call continues in the background: it must change nothing that the
// caller uses.
func Bounded[T any](path string, call func() (T, error)) (T, error) {
	var none T
	if err := startCall(path); err != nil {
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	var mu sync.Mutex // guards abandoned
	abandoned := false
	done := make(chan result, 1)
	go func() {
		value, err := call()
		mu.Lock()
		defer mu.Unlock()
		if abandoned {
			endCall(path)
		}
		done <- result{value, err}
	}()
	timer := time.NewTimer(callTime())
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
	}
	mu.Lock()
	defer mu.Unlock()
	select {
	case r := <-done: // just now
		return r.value, r.err
	default:
		abandoned = true
		return none, abandonCall(path)
	}
}

// callTime returns how long a call may take now.
func callTime() time.Duration {
	hanging.Lock()
	defer hanging.Unlock()
	return max(patience>>len(hanging.since), leastPatience)
}

// startCall returns an error if a call for path would hang.
func startCall(path string) error {
	hanging.Lock()
	defer hanging.Unlock()
	if since, ok := hanging.since[path]; ok {
		return hangs(path, since)
	}
	if n := len(hanging.since); n >= maxHanging {
		return fmt.Errorf("%s: it is not tried, since %d others hang: %w", path, n, ErrHangs)
	}
	return nil
}

// abandonCall notes that a call for path hangs, until endCall.
func abandonCall(path string) error {
	hanging.Lock()
	defer hanging.Unlock()
	since := time.Now()
	hanging.since[path] = since
	return hangs(path, since)
}

func endCall(path string) {
	hanging.Lock()
	defer hanging.Unlock()
	delete(hanging.since, path)
}

func hangs(path string, since time.Time) error {
	return hint.Errorf("is it on a network file system that is unavailable?", "%s: %w since %s", path, ErrHangs,
		since.UTC().Format(time.RFC3339))
}

// A Stated is what Stat returned for one path.
type Stated struct {
	Info fs.FileInfo // nil if Err is not
	Err  error
}

// Stat calls [os.Stat] for each path, and does not wait for those that hang: their
// errors wrap [ErrHangs]. Thousands of paths share one goroutine, and cost little
// more than the calls.
func Stat(paths ...string) []Stated {
	all := make([]Stated, 0, len(paths))
	for len(all) < len(paths) {
		all = append(all, stat(paths[len(all):])...)
	}
	return all
}

// stat is Stat up to the first path that hangs.
func stat(paths []string) []Stated {
	var mu sync.Mutex // guards the next two
	var all []Stated
	abandoned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, path := range paths {
			s := Stated{Err: startCall(path)}
			if s.Err == nil {
				s.Info, s.Err = os.Stat(path)
			}
			mu.Lock()
			if abandoned {
				endCall(path)
				mu.Unlock()
				return
			}
			all = append(all, s)
			mu.Unlock()
		}
	}()
	tick := time.NewTicker(callTime())
	defer tick.Stop()
	for before := 0; ; {
		select {
		case <-done:
			return all
		case <-tick.C:
		}
		mu.Lock()
		switch n := len(all); {
		case n == len(paths):
			mu.Unlock()
			return all
		case n == before: // nothing since the last tick
			abandoned = true
			all = append(all, Stated{Err: abandonCall(paths[n])})
			mu.Unlock()
			return all
		default:
			before = n
		}
		mu.Unlock()
	}
}
