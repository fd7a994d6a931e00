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
	// watchTime is how long one watch lasts: the API server then ends it.
	watchTime = 4 * time.Minute
	// watchStart is how long the API server may take to start one.
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

// watch watches until the watch ends or fails. The reason is not reported: the caller
// tries again, and Load returns it.
func (s *Store) watch(ctx context.Context, changed func()) {
	ctx, cancel := context.WithTimeout(ctx, watchTime+watchStart)
	defer cancel()
	ctx, done := s.track(ctx)
	defer done()
	tooLate := time.AfterFunc(watchStart, cancel)
	// Without a resourceVersion, a watch starts with the current state, so that no
	// change between two watches is missed.
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
		var event struct { // the object, with the private keys, is not decoded
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
