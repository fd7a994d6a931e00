package secret_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"oidc-provider/internal/store/secret"
	"oidc-provider/internal/store/storetest"
	"oidc-provider/rotation"
)

var _ rotation.Watcher = (*secret.Store)(nil)

// inBubble runs test with an API server in memory, in a synctest bubble.
func inBubble(t *testing.T, test func(t *testing.T, a *apiServer, s *secret.Store)) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPIServer(t)
		test(t, a, a.store(t))
	})
}

func load(t *testing.T, s *secret.Store) (string, rotation.Version) {
	t.Helper()
	data, v, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(data), v
}

func swap(t *testing.T, s *secret.Store, data string, old rotation.Version) rotation.Version {
	t.Helper()
	if err := s.Swap(t.Context(), []byte(data), old); err != nil {
		t.Fatal(err)
	}
	got, v := load(t, s)
	if got != data || v == "" || v == old {
		t.Fatalf("wrote %q over version %q: reads %.20q, version %q", data, old, got, v)
	}
	return v
}

func wantConflict(t *testing.T, s *secret.Store, old rotation.Version) {
	t.Helper()
	if err := s.Swap(t.Context(), []byte("never"), old); !errors.Is(err, rotation.ErrConflict) {
		t.Errorf("Swap with version %q: got %v, want ErrConflict", old, err)
	}
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		a := newAPIServer(t)
		return storetest.Backend{
			Open:        func(t *testing.T) rotation.Store { return a.store(t) },
			MaxDocument: corev1.MaxSecretSize,
		}
	})
}

func TestSwap(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		if data, v := load(t, s); data != "" || v != "" {
			t.Fatalf("an empty store holds %q, version %q", data, v)
		}
		wantConflict(t, s, "uid-1/1")
		v1 := swap(t, s, "one", "")
		wantConflict(t, s, "")
		v2 := swap(t, a.store(t), "two", v1)
		wantConflict(t, s, v1)
		if data, v := load(t, s); data != "two" || v != v2 {
			t.Errorf("reads %q, version %q, want version %q", data, v, v2)
		}
		got := a.get()
		if got.Type != corev1.SecretTypeOpaque || got.Labels["app.kubernetes.io/managed-by"] != "oidc-provider" {
			t.Errorf("created %v", got.ObjectMeta)
		}
		v3 := swap(t, s, "", v2) // an empty ring is a ring
		wantConflict(t, s, "")
		swap(t, s, strings.Repeat("x", corev1.MaxSecretSize), v3)
	})
}

func TestLoadIsAQuorumRead(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		load(t, s)
		r := a.requests[0]
		if r.URL.Path != "/api/v1/namespaces/keys/secrets/ring" || r.URL.RawQuery != "" {
			t.Errorf("sent %s", r.URL)
		}
		if got := r.UserAgent(); got != "oidc-provider" {
			t.Errorf("User-Agent %q", got)
		}
	})
}

// A Secret that is created again may have the resourceVersion of the old one.
func TestRecreatedSecretIsAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		v1 := swap(t, s, "one", "")
		revision := a.get().ResourceVersion
		a.put(nil)
		if _, v := load(t, s); v != "" {
			t.Errorf("deleted: version %q", v)
		}
		wantConflict(t, s, v1)
		a.revision = 0 // as in an etcd restored from a backup
		a.put(&corev1.Secret{Data: map[string][]byte{"ring.json": []byte("other")}})
		a.secrets["ring"].UID = "another"
		if got := a.get().ResourceVersion; got != revision {
			t.Fatalf("the fake is at %s, not %s", got, revision)
		}
		wantConflict(t, s, v1)
	})
}

func TestRestOfTheSecretStays(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.put(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Labels:          map[string]string{"team": "a"},
				Annotations:     map[string]string{"note": "b"},
				Finalizers:      []string{"example.com/keep"},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "c", UID: "d"}},
				ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "helm", Operation: "Apply"}},
			},
			Type: "example.com/keys",
			Data: map[string][]byte{"other": []byte("mine")},
		})
		want := a.get()
		if _, v := load(t, s); v != "" {
			t.Errorf("a Secret without a ring has version %q", v)
		}
		wantConflict(t, s, "uid-1/1") // although this matches its UID and resourceVersion
		swap(t, s, "two", swap(t, s, "one", ""))
		got := a.get()
		want.ResourceVersion = got.ResourceVersion
		want.Data["ring.json"] = []byte("two")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestChangeOfMetadataIsAConflict(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		v1 := swap(t, s, "one", "")
		bumped := a.get()
		bumped.Annotations = map[string]string{"seen": "yes"}
		a.put(bumped)
		data, v2 := load(t, s)
		if data != "one" || v2 == v1 {
			t.Errorf("reads %q, version %q after %q", data, v2, v1)
		}
		wantConflict(t, s, v1)
		swap(t, s, "two", v2)
	})
}

// Another writer writes between the read and the write of a Swap.
func TestSwapLosesTheRace(t *testing.T) {
	without := &corev1.Secret{Data: map[string][]byte{"other": nil}}
	with := &corev1.Secret{Data: map[string][]byte{"ring.json": []byte("theirs")}}
	for name, tt := range map[string]struct {
		first *corev1.Secret
		then  []*corev1.Secret
	}{
		"created":             {nil, []*corev1.Secret{with}},
		"created without":     {nil, []*corev1.Secret{without}},
		"filled":              {without, []*corev1.Secret{with}},
		"replaced":            {with, []*corev1.Secret{with}},
		"deleted":             {with, []*corev1.Secret{nil}},
		"deleted and created": {with, []*corev1.Secret{nil, with}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
				if tt.first != nil {
					a.put(tt.first)
				}
				_, v := load(t, s)
				a.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
					if r.Method != "GET" {
						for _, next := range tt.then {
							if next != nil && a.get() != nil {
								next = next.DeepCopy()
								next.UID = a.get().UID
							}
							a.put(next)
						}
					}
					return false
				}, nil)
				wantConflict(t, s, v)
				var want map[string][]byte
				if last := tt.then[len(tt.then)-1]; last != nil {
					want = last.Data
				}
				if got := a.get(); got != nil && !maps.EqualFunc(got.Data, want, bytes.Equal) {
					t.Errorf("afterwards: %q", got.Data)
				}
			})
		})
	}
}

// The answer to a write that succeeded gets lost: that is an error, not a conflict, and
// the write is not sent again.
func TestLostAnswer(t *testing.T) {
	for name, lose := range map[string]func(http.ResponseWriter){
		"closed":  func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"garbage": func(w http.ResponseWriter) { fmt.Fprint(w, "{}") },
		"cut off": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"kind":"Secret",`)
		},
		"hijacked": func(w http.ResponseWriter) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
		},
		"409": func(w http.ResponseWriter) { http.Error(w, "a page", http.StatusConflict) }, // not from the API server
		"429": func(w http.ResponseWriter) { busy(w, 429) },
		"500": func(w http.ResponseWriter) { busy(w, 500) },
		"503": func(w http.ResponseWriter) { busy(w, 503) },
		"302": func(w http.ResponseWriter) {
			w.Header().Set("Location", "/api/v1/namespaces/keys/secrets/ring")
			w.WriteHeader(302)
		},
		"307": func(w http.ResponseWriter) {
			w.Header().Set("Location", "/api/v1/namespaces/keys/secrets/ring")
			w.WriteHeader(307)
		},
	} {
		for _, method := range []string{"POST", "PUT"} {
			t.Run(method+" "+name, func(t *testing.T) {
				inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
					var v rotation.Version
					if method == "PUT" {
						v = swap(t, s, "one", "")
					}
					before := a.sent(method)
					a.intercept(nil, func(w http.ResponseWriter, r *http.Request) bool {
						if r.Method == "GET" {
							return false
						}
						lose(w)
						return true
					})
					err := s.Swap(t.Context(), []byte("two"), v)
					if err == nil || errors.Is(err, rotation.ErrConflict) {
						t.Errorf("got %v", err)
					}
					network := !strings.HasPrefix(name, "30") && name != "409" && name != "garbage"
					if errors.Is(err, rotation.ErrUnavailable) != network {
						t.Errorf("want ErrUnavailable: %v, got %v", network, err)
					}
					if n := a.sent(method) - before; n != 1 {
						t.Errorf("sent %d times", n)
					}
					if data, _ := load(t, s); data != "two" {
						t.Errorf("reads %q", data)
					}
				})
			})
		}
	}
}

func busy(w http.ResponseWriter, code int) {
	w.Header().Set("Retry-After", "30")
	w.WriteHeader(code)
}

// Close drops the connections, and can be called again.
func TestClose(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, _ *secret.Store) {
		dial, open := a.cfg.Dial, 0
		a.cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			open++
			return &countedConn{Conn: conn, open: &open}, err
		}
		s := a.store(t)
		load(t, s)
		if open != 1 {
			t.Fatalf("%d connections are open after a read", open)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if open != 0 {
			t.Errorf("%d connections are open after Close", open)
		}
	})
}

type countedConn struct {
	net.Conn
	once sync.Once
	open *int
}

func (c *countedConn) Close() error {
	c.once.Do(func() { *c.open-- })
	return c.Conn.Close()
}

func TestNoRateLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		began := time.Now()
		for range 200 {
			load(t, s)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("200 reads waited for %v", took)
		}
	})
}

func TestCancelledContext(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		v := swap(t, s, "one", "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := s.Load(ctx)
		if !errors.Is(err, context.Canceled) || errors.Is(err, rotation.ErrUnavailable) {
			t.Errorf("Load: %v", err)
		}
		err = s.Swap(ctx, []byte("two"), v)
		if !errors.Is(err, context.Canceled) || errors.Is(err, rotation.ErrUnavailable) {
			t.Errorf("Swap: %v", err)
		}
		if data, _ := load(t, s); data != "one" {
			t.Errorf("reads %q", data)
		}
	})
}
