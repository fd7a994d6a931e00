package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"

	"oidc-provider/internal/seal"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// A forgery is a ring made by somebody who may write the store, has old rings, and
// has an identity that was removed from the writers.
type forgery struct {
	name string
	// make returns it. current is the document in the store.
	make func(current []byte) []byte
}

// forgeries are made with an identity that was removed. signed is the last ring that
// it may have signed.
func (p *controlPlane) forgeries(signed []byte, identityFile string) []forgery {
	t := p.lab.t
	t.Helper()
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	otherFile := p.lab.write("attacker.txt", other.String()+"\n")
	removed, both, alone := p.sealer(identityFile), p.sealer(identityFile, otherFile), p.sealer(otherFile)
	return []forgery{
		{"old ring continued", func(current []byte) []byte {
			return forge(t, signed, current, removed)
		}},
		{"writer endorsed by the removed one", func(current []byte) []byte {
			return forge(t, signed, current, both, func(r *rotation.Ring) (*rotation.Ring, error) {
				return rotation.Enroll(t.Context(), r, both, nil, time.Now())
			}, func(r *rotation.Ring) (*rotation.Ring, error) {
				return rotation.RemoveWriter(t.Context(), r, alone, p.identity.Recipient().String(), time.Now())
			})
		}},
		{"current ring changed", func(current []byte) []byte {
			return signAgain(t, current, removed)
		}},
	}
}

// forge changes the ring in a document, and then rotates it until it is newer than
// current.
func forge(t testing.TB, document, current []byte, s *seal.Sealer, changes ...func(*rotation.Ring) (*rotation.Ring, error)) []byte {
	t.Helper()
	scratch := store.NewFile(t.TempDir() + "/ring")
	if err := scratch.Swap(t.Context(), document, ""); err != nil {
		t.Fatal(err)
	}
	generation := mustDecode(t, current).Generation
	rotate := func(r *rotation.Ring) (*rotation.Ring, error) {
		next, _, err := rotation.Rotate(r, time.Now(), true, rotation.GenerateKey)
		return next, err
	}
	changes = append(changes, rotate)
	for r := mustDecode(t, document); len(changes) > 0 || r.Generation <= generation; {
		change := rotate
		if len(changes) > 0 {
			change, changes = changes[0], changes[1:]
		}
		var err error
		if r, err = rotation.Update(t.Context(), scratch, rotation.Access{Sealer: s}, change); err != nil {
			t.Fatal(err)
		}
	}
	data, _, err := scratch.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// signAgain makes a ring of the next generation from the one in document.
func signAgain(t testing.TB, document []byte, s *seal.Sealer) []byte {
	t.Helper()
	var envelope struct {
		Version    int                  `json:"version"`
		Signatures []rotation.Signature `json:"signatures"`
		Ring       json.RawMessage      `json:"ring"`
	}
	if err := json.Unmarshal(document, &envelope); err != nil {
		t.Fatal(err)
	}
	generation := mustDecode(t, document).Generation
	before, after := fmt.Sprintf(`"generation": %d`, generation), fmt.Sprintf(`"generation": %d`, generation+1)
	ring := strings.Replace(string(envelope.Ring), before, after, 1)
	if ring == string(envelope.Ring) {
		t.Fatalf("no %s in the ring", before)
	}
	keys, err := s.WriterKeys(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := json.Marshal(keys[0].Sign([]byte("oidc-provider ring\n" + ring)))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"version": %d, "signatures": [{"writer": %q, "signature": %s}], "ring": %s}`,
		envelope.Version, keys[0].ID(), signature, ring)
}

func mustDecode(t testing.TB, document []byte) *rotation.Ring {
	t.Helper()
	r, err := rotation.Decode(document)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mustReplace puts the result of change into etcd, unless the ring is changed at the
// same moment: then it starts again.
func mustReplace(t testing.TB, c *clientv3.Client, key string, change func([]byte) []byte) (before, after []byte) {
	t.Helper()
	for {
		response, err := c.Get(t.Context(), key)
		if err != nil || len(response.Kvs) != 1 {
			t.Fatalf("reading %s: %v", key, err)
		}
		kv := response.Kvs[0]
		document := change(kv.Value)
		written, err := c.Txn(t.Context()).If(clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)).
			Then(clientv3.OpPut(key, string(document))).Commit()
		if err != nil {
			t.Fatal(err)
		}
		if written.Succeeded {
			return kv.Value, document
		}
	}
}

// checkRefusesRemoved puts one forgery after the other into etcd. No server that runs
// uses it.
func (u *upgrade) checkRefusesRemoved(signed []byte, identityFile string) {
	t := u.lab.t
	t.Helper()
	u.attacked = true
	for _, f := range u.forgeries(signed, identityFile) {
		u.attack(f, func(current, forged []byte) {
			for _, r := range u.everyone() {
				r.checkRefuses(t, f.name, foreign(t, current, forged))
			}
		})
	}
}

// checkRefusesAtStart does the same with a server that starts, and remembers nothing.
func (u *upgrade) checkRefusesAtStart(signed []byte, identityFile string) {
	t := u.lab.t
	t.Helper()
	for i, f := range u.forgeries(signed, identityFile) {
		r := u.another(fmt.Sprintf("starts-%d", i), "--witness", "none")
		u.attack(f, func(_, _ []byte) { r.checkExits(t) })
	}
}

// attack leaves a forgery in etcd for as long as look takes.
func (u *upgrade) attack(f forgery, look func(current, forged []byte)) {
	t := u.lab.t
	t.Helper()
	kv := etcdClient(t, u.members...)
	began := time.Now()
	current, forged := mustReplace(t, kv, ringKeyInEtcd, f.make)
	look(current, forged)
	mustReplace(t, kv, ringKeyInEtcd, func(there []byte) []byte {
		if string(there) != string(forged) {
			t.Errorf("%s: somebody has written over it:\n%s", f.name, there)
		}
		return current
	})
	back := time.Now()
	for _, r := range u.everyone() {
		if err := u.agree(r, back, agreement); err != nil {
			t.Errorf("%s: afterwards %v", f.name, err)
		}
	}
	t.Logf("%s %s: was there for %s", clock(began), f.name, back.Sub(began).Round(time.Millisecond))
}

// foreign lists the keys in forged that are not in current.
func foreign(t testing.TB, current, forged []byte) (kids []string) {
	t.Helper()
	known := mustDecode(t, current)
	var r signedRing
	if err := json.Unmarshal(forged, &r); err != nil {
		t.Fatal(err)
	}
	for _, k := range r.Ring.Keys {
		if !known.Knows(k.KeyID) {
			kids = append(kids, k.KeyID)
		}
	}
	return kids
}

// checkRefuses wants a server to say that the ring in its store is not used, and why.
// It continues to sign and publishes none of these keys.
func (r *replica) checkRefuses(t testing.TB, forgery string, kids []string) {
	t.Helper()
	client := r.lab.ca.client()
	eventually(t, r.name+": "+forgery, agreement, func() error {
		_, report, err := get(t.Context(), client, "http://"+r.admin+"/readyz?verbose")
		if err == nil && (!strings.Contains(report, "[!]rotation: ") || !strings.Contains(report, "writer")) {
			err = fmt.Errorf("readyz:\n%s", report)
		}
		_, metrics, metricsErr := get(t.Context(), client, "http://"+r.admin+"/metrics")
		if want := `oidc_provider_ring_refused{issuer="` + r.issuer + `"} 1`; !strings.Contains(metrics, want) {
			metricsErr = errors.Join(metricsErr, errors.New("the metrics lack "+want))
		}
		return errors.Join(err, metricsErr)
	})
	if r.socket == "" {
		// It only publishes.
	} else if err := r.sign(t.Context()); err != nil {
		t.Errorf("%s does not sign: %s: %v", r.name, forgery, err)
	}
	published := r.published(t)
	if i := slices.IndexFunc(kids, func(kid string) bool { return strings.Contains(published, kid) }); i >= 0 {
		t.Errorf("%s publishes %s: %s", r.name, kids[i], forgery)
	}
}

// checkExits wants the server not to start.
func (r *replica) checkExits(t testing.TB) {
	t.Helper()
	r.launch()
	select {
	case <-r.process.done:
		t.Logf("%s: %s", r.name, tail(r.process.logPath, 1))
	case <-time.After(2 * time.Second):
		t.Errorf("%s has started on a ring that a removed writer has signed", r.name)
		r.process.kill()
	}
}
