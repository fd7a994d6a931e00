package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// A load balancer takes a replica out within probeEvery + probeTimeout of
	// its becoming unready, and asks another if one does not answer in
	// answerTimeout. What a relying party gets through it is older by their
	// sum at most than what the replica calls fresh. Together they must not
	// exceed what max-age leaves of publish-ahead: see [checkRoom].
	probeEvery    = 200 * time.Millisecond
	probeTimeout  = 300 * time.Millisecond
	answerTimeout = 500 * time.Millisecond
)

// checkRoom checks the test itself, as somebody who deploys this would.
func checkRoom(t *testing.T, p policy) {
	t.Helper()
	if old := p.publishAhead/2 + probeEvery + probeTimeout + answerTimeout + p.maxAge; old >= p.publishAhead {
		t.Fatalf("relying parties may go by keys that are %s old, with publish-ahead %s", old, p.publishAhead)
	}
}

// A balancer is an http.RoundTripper that sends each request to one of the
// replicas that are ready, at random: what stands before them in real life.
type balancer struct {
	t        *testing.T
	replicas []*replica
	client   *http.Client

	ready   []atomic.Bool
	retries atomic.Int64 // requests that another replica had to answer
	waits   atomic.Int64 // requests that found no replica ready

	mu     sync.Mutex
	unwell [][]span // of each replica, when it said that it was not ready
}

// A span is from one time to another; an open one has no end yet.
type span struct{ from, to time.Time }

func newBalancer(t *testing.T, replicas []*replica) *balancer {
	b := &balancer{
		t: t, replicas: replicas, client: replicas[0].lab.ca.client(),
		ready: make([]atomic.Bool, len(replicas)), unwell: make([][]span, len(replicas)),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var probing sync.WaitGroup
	for i := range replicas {
		b.probe(ctx, i)
		probing.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(probeEvery)
				b.probe(ctx, i)
			}
		})
	}
	t.Cleanup(func() { cancel(); probing.Wait() })
	return b
}

func (b *balancer) probe(ctx context.Context, i int) {
	probing, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := b.send(probing, http.MethodGet, "http://"+b.replicas[i].admin+"/readyz", nil)
	if ctx.Err() != nil {
		return
	}
	b.ready[i].Store(err == nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	now, spans := time.Now(), b.unwell[i]
	open := len(spans) > 0 && spans[len(spans)-1].to.IsZero()
	switch no := (statusError{}); {
	case errors.As(err, &no) && !open:
		b.unwell[i] = append(spans, span{from: now})
	case err == nil && open:
		spans[len(spans)-1].to = now
	}
}

// A statusError is an answer, and not the one that was hoped for.
type statusError struct{ url, status string }

func (e statusError) Error() string { return e.url + ": " + e.status }

// RoundTrip implements http.RoundTripper. With no replica ready it waits: that
// is an outage, which a relying party can wait out, and the test counts it.
func (b *balancer) RoundTrip(request *http.Request) (*http.Response, error) {
	var response *http.Response
	err := persist(request.Context(), recovery, func() error {
		var ready []*replica
		for i := range b.ready {
			if b.ready[i].Load() {
				ready = append(ready, b.replicas[i])
			}
		}
		if len(ready) == 0 {
			b.waits.Add(1)
			return errors.New("no replica is ready")
		}
		rand.Shuffle(len(ready), func(i, j int) { ready[i], ready[j] = ready[j], ready[i] })
		var errs []error
		for _, r := range ready {
			ctx, cancel := context.WithTimeout(request.Context(), answerTimeout)
			var err error
			response, err = b.send(ctx, request.Method, "https://"+r.listen+request.URL.RequestURI(), request.Header)
			cancel()
			if err == nil {
				return nil
			}
			b.retries.Add(1)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	return response, err
}

// send counts an answer when all of it is there: a kill may cut it short.
func (b *balancer) send(ctx context.Context, method, url string, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header = header
	response, err := b.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, statusError{url, response.Status}
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// outages lists when replica i said that it was not ready.
func (b *balancer) outages(i int) []span {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.unwell[i])
}
