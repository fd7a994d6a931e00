package fleet_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"oidc-provider/rotation"
)

// TestNoAttack is the control of TestAttacks: a server accepts what a writer of the
// ring has done, and one that refused a ring at its start recovers.
func TestNoAttack(t *testing.T) {
	for _, kind := range attackedKinds {
		t.Run(strings.ReplaceAll(kind, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, kind)
			s := mustStart(t, w, w.good, "")
			must(t, s.settled(w.good, time.Now()))
			before := s.see(answers)
			must(t, s.put(w.next))
			must(t, s.await("the change is accepted", func() bool { return s.see(answers) != before }))
			after := s.see(answers)
			if after.keySet == before.keySet || after.keySet == "" || s.signs && (after.signer == before.signer || after.signer == "") {
				t.Errorf("clients saw\n%+v\nand now see\n%+v", before, after)
			}
			must(t, s.settled(nil, time.Now())) // and noted in the rollback state

			restarted := mustStart(t, w, w.good, s.state) // which is an old ring now
			must(t, restarted.refused(isPast))
			must(t, restarted.put(s.ring()))
			must(t, restarted.await("it serves", func() bool { return restarted.see(time.Second) == s.see(answers) }))
			must(t, restarted.settled(nil, time.Now()))
		})
	}
}

// TestEmptyStoreAtStart has nothing that an attacker could be noticed by.
func TestEmptyStoreAtStart(t *testing.T) {
	for _, kind := range attackedKinds {
		t.Run(strings.ReplaceAll(kind, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, kind)
			s := mustStart(t, w, nil, "")
			must(t, s.await("it says so", func() bool { return strings.Contains(s.report(), "the store holds no ring") }))
			if v := s.see(100 * time.Millisecond); v != (clientsView{}) {
				t.Errorf("clients see %+v", v)
			}
			if ring := s.ring(); len(ring) > 0 {
				t.Errorf("the server has made a ring: %s", ring)
			}
		})
	}
}

// TestStrippedRevocation removes the statement of a writer that may only revoke from
// the store, after servers have seen it: the key stays away.
func TestStrippedRevocation(t *testing.T) {
	for _, kind := range attackedKinds {
		t.Run(strings.ReplaceAll(kind, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, kind)
			s := mustStart(t, w, w.good, "")
			must(t, s.settled(w.good, time.Now()))
			_, _, next := keysOf(openForgery(w.good).ring())
			kid := next["kid"].(string)
			published := func(s *server) bool {
				v := s.see(answers)
				return strings.Contains(v.keySet, kid) || strings.Contains(v.keys, kid)
			}
			must(t, s.put(w.struck))
			must(t, s.await("the key is taken away", func() bool { return !published(s) }))
			must(t, s.await("its end is written", func() bool { return !s.signs || !bytes.Equal(s.ring(), w.struck) }))
			put := time.Now()
			must(t, s.put(w.good))
			if s.signs { // the server has put the revocation into the ring
				must(t, s.refused(isPast))
			} else { // which is as good as before, but for the statement
				must(t, s.settled(w.good, put))
			}
			if published(s) {
				t.Errorf("the key is published again")
			}
			restarted := mustStart(t, w, w.good, s.state)
			if s.signs {
				must(t, restarted.refused(isPast))
			} else {
				must(t, restarted.await("it serves", func() bool { return restarted.see(time.Second).keySet != "" }))
				if published(restarted) {
					t.Errorf("the key is published again after a restart")
				}
			}
		})
	}
}

// mustStart starts a server until the end of the test.
func mustStart(t *testing.T, w *world, document []byte, from string) *server {
	t.Helper()
	s, err := startServer(t, w, document, from)
	must(t, err)
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestForeignSeed lets someone who may use the KMS plugin, and so can make a seed whose
// key he knows, sign a ring. A server that knows the writers does not trust him.
func TestForeignSeed(t *testing.T) {
	w := newWorld(t, "kms")
	s := mustStart(t, w, w.good, "")
	must(t, s.settled(w.good, time.Now()))
	before := s.see(answers)
	ring := followed(w.good)
	wish(ring)
	seed, err := w.sealer.NewWriterSeed(t.Context())
	must(t, err)
	keys, err := w.sealer.WriterKeys(t.Context(), seed)
	must(t, err)
	ring["writerSeed"] = seed
	add(ring, "writers", object{"id": keys[0].ID(), "name": "kms", "since": ring["updated"]})
	forged := forgery{Version: 3, Ring: encode(ring)}
	forged.Signatures = []object{{"writer": keys[0].ID(), "signature": keys[0].Sign(ringMessage(forged.Ring))}}
	doc := forged.bytes()
	if _, err := rotation.Decode(doc); err != nil {
		t.Fatal(err)
	}
	must(t, s.put(doc), s.refused(stranger))
	if after := s.see(answers); after != before {
		t.Errorf("clients saw\n%+v\nand now see\n%+v", before, after)
	}
	must(t, mustStart(t, w, doc, s.state).refused(stranger))
}
