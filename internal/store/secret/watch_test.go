package secret_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"oidc-provider/internal/store/secret"
)

// watch starts to watch s. It returns a function that waits until all goroutines are
// blocked, and returns the number of calls of changed since its last call.
func watch(t *testing.T, s *secret.Store) (calls func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	var count atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx, func() { count.Add(1) })
	}()
	t.Cleanup(func() {
		began := time.Now()
		cancel()
		<-done
		if took := time.Since(began); took > 0 {
			t.Errorf("Watch returned after %v", took)
		}
	})
	return func() int {
		synctest.Wait()
		return int(count.Swap(0))
	}
}

func TestWatch(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		calls := watch(t, s)
		if n := calls(); n != 1 {
			t.Errorf("%d calls at the start", n)
		}
		query := a.requests[0].URL.Query()
		if query.Get("fieldSelector") != "metadata.name=ring" || query.Get("timeoutSeconds") != "240" ||
			query.Get("resourceVersion") != "" {
			t.Errorf("asks for %v", query)
		}
		v := swap(t, s, "one", "")
		if n := calls(); n != 1 {
			t.Errorf("%d calls after creation", n)
		}
		swap(t, s, "two", v)
		if n := calls(); n != 1 {
			t.Errorf("%d calls after a change", n)
		}
		a.put(nil)
		if n := calls(); n != 1 {
			t.Errorf("%d calls after deletion", n)
		}
		time.Sleep(time.Minute)
		if n := calls(); n != 0 {
			t.Errorf("%d calls for nothing", n)
		}
	})
}

// The API server ends each watch after a while. A change between two watches is
// reported.
func TestWatchAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		calls := watch(t, s)
		calls()
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		a.put(&corev1.Secret{}) // no watch is open
		if n := calls(); n != 0 {
			t.Fatalf("%d calls while nothing is watched", n)
		}
		time.Sleep(50 * time.Millisecond)
		if n := calls(); n != 2 { // one for the start, one for the current state
			t.Errorf("%d calls after the first watch has ended", n)
		}
		time.Sleep(time.Hour)
		if n := a.sent("GET"); n < 16 || n > 18 {
			t.Errorf("%d watches in an hour", n)
		}
		calls()
		a.CloseClientConnections()
		time.Sleep(50 * time.Millisecond)
		if n := calls(); n != 2 {
			t.Errorf("%d calls soon after the last of many watches has ended", n)
		}
	})
}

func TestWatchEvents(t *testing.T) {
	for events, want := range map[string]int{
		`{"type":"BOOKMARK","object":{}}`: 1,
		`{"type":"ADDED","object":{}}`:    2,
		`{"type":"ERROR","object":{"kind":"Status","code":410}}{"type":"ADDED","object":{}}`: 1,
		`<html>`: 1,
	} {
		t.Run(events, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
				a.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					fmt.Fprint(w, events)
					w.(http.Flusher).Flush()
					<-r.Context().Done()
					return true
				}, nil)
				if n := watch(t, s)(); n != want {
					t.Errorf("%d calls, want %d", n, want)
				}
			})
		})
	}
}

// An unavailable API server is asked again and again, but not in a hot loop. After the
// outage, the watch works within a second.
func TestWatchOutage(t *testing.T) {
	for name, away := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"refused": func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true },
		"busy":    func(w http.ResponseWriter, _ *http.Request) bool { busy(w, 429); return true },
		"denied":  func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(403); return true },
		"closed":  func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
				calls := watch(t, s)
				calls()
				a.intercept(away, nil)
				a.CloseClientConnections()
				time.Sleep(3 * time.Minute)
				if n := calls(); n != 0 {
					t.Errorf("%d calls during the outage", n)
				}
				if n := a.sent("GET"); n < 180 || n > 360+10 {
					t.Errorf("asked %d times in three minutes", n)
				}
				a.intercept(nil, nil)
				time.Sleep(time.Second)
				if n := calls(); n != 1 {
					t.Errorf("%d calls after the outage", n)
				}
				a.put(&corev1.Secret{})
				if n := calls(); n != 1 {
					t.Errorf("%d calls after a change", n)
				}
			})
		})
	}
}

// A server that accepts each watch and ends it at once does not cause a hot loop.
func TestWatchEndsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.intercept(func(http.ResponseWriter, *http.Request) bool { return true }, nil)
		calls := watch(t, s)
		time.Sleep(time.Minute)
		if n := calls(); n < 60 || n > 130 {
			t.Errorf("%d calls in a minute", n)
		}
	})
}

// A watch on a server that accepts the request and never answers is tried again.
func TestWatchStuck(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.intercept(stuck, nil)
		calls := watch(t, s)
		synctest.Wait()
		a.intercept(nil, nil)
		time.Sleep(10*time.Second + 50*time.Millisecond)
		if n := calls(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

// After a read times out, the watch does not wait for the dead connection.
func TestWatchFollowsTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		calls := watch(t, s)
		calls()
		a.intercept(stuck, nil)
		if _, _, err := s.Load(t.Context()); err == nil {
			t.Fatal("Load of a stuck server worked")
		}
		a.intercept(nil, nil)
		time.Sleep(50 * time.Millisecond)
		if n := calls(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

// API servers speak HTTP/2 over TLS, where all requests share a connection and
// a lost answer is a reset stream.
func TestHTTP2(t *testing.T) {
	a := newAPIServer(t)
	server := httptest.NewUnstartedServer(a)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	a.cfg = &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	s := a.store(t)

	ctx, cancel := context.WithCancel(t.Context())
	changed, done := make(chan struct{}, 10), make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx, func() { changed <- struct{}{} })
	}()
	<-changed
	v := swap(t, s, "one", "")
	<-changed
	a.intercept(nil, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PUT" {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	err := s.Swap(t.Context(), []byte("two"), v)
	if err == nil || a.sent("PUT") != 1 {
		t.Errorf("got %v, sent %d times", err, a.sent("PUT"))
	}
	<-changed
	if data, _ := load(t, s); data != "two" {
		t.Errorf("reads %q", data)
	}
	for _, r := range a.requests {
		if r.ProtoMajor != 2 {
			t.Errorf("%s %s: %s", r.Method, r.URL, r.Proto)
		}
	}
	cancel()
	<-done
}
