package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// A keyWatch looks at the published JWKS all the time, and holds it to its
// promises: never fewer than two keys, and no key changed or withdrawn while a
// token that it signed may live, which in these tests is to the end.
type keyWatch struct {
	t      *testing.T
	client *http.Client
	url    string
	stop   func()

	mu    sync.Mutex
	first map[string]time.Time // when each kid was first seen
	jwk   map[string]string    // and what its key was then
	began time.Time            // the first look
	looks int
	most  int
}

func watchKeys(t *testing.T, client *http.Client, url string) *keyWatch {
	t.Helper()
	w := &keyWatch{t: t, client: client, url: url, first: make(map[string]time.Time), jwk: make(map[string]string)}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			w.look(ctx)
			time.Sleep(100 * time.Millisecond)
		}
	})
	w.stop = func() { cancel(); running.Wait() }
	t.Cleanup(w.stop)
	return w
}

func (w *keyWatch) look(ctx context.Context) {
	set, _, err := fetchKeySet(ctx, w.client, w.url)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.t.Errorf("JWKS: %v", err)
		return
	}
	now, published := time.Now(), make(map[string]string)
	for _, key := range set.Keys {
		data, err := json.Marshal(key)
		if err != nil {
			w.t.Errorf("JWKS: key %s: %v", key.KeyID, err)
		}
		published[key.KeyID] = string(data)
	}
	if len(published) < 2 || len(published) != len(set.Keys) {
		w.t.Errorf("JWKS has %d keys with %d kids, want at least an active one and a standby", len(set.Keys), len(published))
	}
	w.compare(published, now)
}

func (w *keyWatch) compare(published map[string]string, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looks++; w.looks == 1 {
		w.began = now
	}
	w.most = max(w.most, len(published))
	for kid, before := range w.jwk {
		if after, found := published[kid]; !found {
			w.t.Errorf("key %s has vanished from the JWKS", kid)
			delete(w.jwk, kid) // once is enough
		} else if after != before {
			w.t.Errorf("key %s has changed:\n%s\n%s", kid, before, after)
		}
	}
	for kid, key := range published {
		if _, found := w.jwk[kid]; !found {
			w.jwk[kid], w.first[kid] = key, now
		}
	}
}

// kids lists every kid that the JWKS has shown.
func (w *keyWatch) kids() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.first))
}

// appeared says when a kid was first seen, if that was after the first look.
func (w *keyWatch) appeared(kid string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, found := w.first[kid]
	return at, found && at.After(w.began)
}

func (w *keyWatch) report() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("JWKS looked at %d times: %d kids, up to %d at once", w.looks, len(w.first), w.most)
}
