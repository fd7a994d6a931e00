package secret

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

const (
	// watchTime is how long the API server is asked to go on with one watch.
	watchTime = 4 * time.Minute
	// watchStart is how long it may take to begin.
	watchStart = 10 * time.Second

	minPause = 50 * time.Millisecond
	maxPause = time.Second
)

// Watch implements [rotation.Watcher].
func (s *Store) Watch(ctx context.Context, changed func()) {
	pause := minPause
	for ctx.Err() == nil {
		began := time.Now()
		s.watch(ctx, changed)
		if time.Since(began) > maxPause {
			pause = minPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, maxPause)
	}
}

// watch watches until something ends it. Why is of no interest: the caller
// begins again, and whoever loads the ring meanwhile gets the reason.
func (s *Store) watch(ctx context.Context, changed func()) {
	ctx, cancel := context.WithTimeout(ctx, watchTime+watchStart)
	defer cancel()
	ctx, done := s.track(ctx)
	defer done()
	tooLate := time.AfterFunc(watchStart, cancel)
	// Without a resourceVersion a watch begins with the present state, so that
	// there is no gap between it and the one before.
	body, err := s.client.Get().Namespace(s.namespace).Resource("secrets").
		Param("watch", "true").
		Param("fieldSelector", "metadata.name="+s.name).
		Param("timeoutSeconds", strconv.Itoa(int(watchTime/time.Second))).
		MaxRetries(0).Stream(ctx)
	tooLate.Stop()
	if err != nil {
		return
	}
	defer body.Close()
	changed()
	events := json.NewDecoder(body)
	for {
		var event struct { // its object, with the private keys, stays undecoded
			Type watch.EventType `json:"type"`
		}
		if err := events.Decode(&event); err != nil || event.Type == watch.Error || ctx.Err() != nil {
			return
		}
		if event.Type != watch.Bookmark {
			changed()
		}
	}
}
