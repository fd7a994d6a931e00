package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"

	"oidc-provider/internal/store"
	"oidc-provider/internal/store/etcd"
	"oidc-provider/internal/store/secret"
	"oidc-provider/internal/store/storetest"
	"oidc-provider/rotation"
)

// TestStores runs the conformance suite over the real things.
func TestStores(t *testing.T) {
	lab := newLab(t)
	private, public := writeServiceAccountKeys(t, lab.dir)
	c := lab.newCluster()
	c.startPlain("https://issuer.test", private, public)
	etcdAddress := strings.TrimPrefix(c.etcd, "http://")
	var places atomic.Int32

	t.Run("file", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Backend {
			dir := filepath.Join(t.TempDir(), "keys")
			return storetest.Backend{Open: func(*testing.T) rotation.Store { return store.NewFile(dir) }}
		})
	})
	t.Run("etcd", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) storetest.Backend {
			key := fmt.Sprintf("/oidc-provider/ring-%d", places.Add(1))
			place := lab.placeBehindProxy(etcdAddress, func(t *testing.T, address string) rotation.Store {
				return openEtcd(t, address, key)
			})
			place.MaxDocument = 3 << 19 // etcd's default
			return place
		})
	})
	t.Run("secret", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) storetest.Backend {
			name := fmt.Sprintf("ring-%d", places.Add(1))
			place := lab.placeBehindProxy(address(c.port), func(t *testing.T, address string) rotation.Store {
				return lab.openSecret(t, address, name)
			})
			place.MaxDocument = 1 << 20 // Kubernetes' own limit
			return place
		})
	})
}

func openEtcd(t *testing.T, address, key string) rotation.Store {
	t.Helper()
	s, err := etcd.New(etcd.Config{Endpoints: []string{address}, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return s
}

func (l *lab) openSecret(t *testing.T, address, name string) rotation.Store {
	t.Helper()
	s, err := secret.New(&rest.Config{
		Host: "https://" + address, BearerToken: adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAFile: l.ca.caFile},
	}, namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// placeBehindProxy is a place at server, which open finds at any address. Only
// lines lead through a proxy, each through one of its own.
func (l *lab) placeBehindProxy(server string, open func(t *testing.T, address string) rotation.Store) storetest.Backend {
	direct := func(t *testing.T) rotation.Store { return open(t, server) }
	return storetest.Backend{
		Open: direct,
		Link: func(t *testing.T) storetest.Link {
			p := l.startProxy(t, server)
			return storetest.Link{
				Open: func(t *testing.T) rotation.Store { return open(t, p.listen) },
				Cuts: map[string]func() func(){
					"Refused": func() func() { p.refuse(); return p.accept },
					"Silent":  func() func() { p.silence(); return p.accept },
					"Paused":  func() func() { p.pause(); return p.accept },
				},
				LoseAnswer: func() {
					ctx, s := t.Context(), direct(t)
					_, before, err := s.Load(ctx)
					if err != nil {
						t.Fatal(err)
					}
					p.loseAnswer(func() bool {
						_, v, err := s.Load(ctx)
						return err == nil && v != before
					})
				},
			}
		},
	}
}
