package rotation_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"oidc-provider/internal/store/storetest"
	"oidc-provider/rotation"
)

// The adversary of the simulation may write anything into the store, and has no key
// of a writer.

// forge replaces the ring for a while by one that nobody may have written.
func (w *world) forge(t *rapid.T) {
	if !w.signed {
		return
	}
	forged := w.forgery(rapid.SampledFrom(forgeries).Draw(t, "forgery"))
	known := make(map[*replica]int64)
	for _, rep := range w.replicas {
		if rep.r != nil {
			known[rep] = rep.r.View().Ring().Generation
		}
	}
	w.replace(t, forged, func() {
		w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
			next, _, err := rotation.Rotate(r, w.now, true, w.generate)
			return next, err
		})
	})
	for rep, generation := range known {
		if rep.r != nil && rep.r.View().Ring().Generation != generation {
			t.Fatalf("invariant 8: a replica follows a forged ring")
		}
	}
}

var forgeries = []string{"changed", "re-signed", "joined", "another", "another, never signed", "never signed", "stripped", "borrowed"}

// forgery returns a document of the adversary's.
func (w *world) forgery(kind string) []byte {
	good := w.store.Data()
	var doc struct {
		Version    int
		Signatures []map[string]any
		Ring       json.RawMessage
	}
	if err := json.Unmarshal(good, &doc); err != nil {
		w.t.Fatal(err)
	}
	// A key of another ring, which the replicas could open.
	theirs, err := rotation.New(simIssuer, rotation.Policy{}, w.now, w.generate)
	if err != nil {
		w.t.Fatal(err)
	}
	theirs.Recipients = recipients
	theirs.Generation = w.ring.Generation + 1
	switch kind {
	case "changed":
		return bytes.Replace(good, fmt.Appendf(nil, `"generation": %d`, w.ring.Generation), fmt.Appendf(nil, `"generation": %d`, w.ring.Generation+1), 1)
	case "re-signed":
		return w.resign(adversary, w.edited(doc.Ring, func(ring map[string]any) { ring["writers"] = []any{w.joins(nil)} }))
	case "joined":
		return w.resign(adversary, w.edited(doc.Ring, func(ring map[string]any) {
			writers := ring["writers"].([]any)
			ring["writers"] = append(writers, w.joins(writers[1].(map[string]any)["endorsements"]))
		}))
	case "another":
		if theirs, err = rotation.Enroll(context.Background(), theirs, adversary, nil, w.now); err != nil {
			w.t.Fatal(err)
		}
		return w.encode(theirs)
	case "another, never signed":
		return w.encode(theirs)
	case "never signed":
		return w.edited(doc.Ring, func(ring map[string]any) {
			ring["version"] = 1
			for _, name := range []string{"writers", "removedWriters", "past", "copies"} {
				delete(ring, name)
			}
		})
	case "stripped":
		return doc.Ring
	}
	// The signatures of the ring, under the change of the adversary.
	forged := w.resign(adversary, w.edited(doc.Ring, func(map[string]any) {}))
	var borrowed map[string]any
	if err := json.Unmarshal(forged, &borrowed); err != nil {
		w.t.Fatal(err)
	}
	borrowed["signatures"] = append(doc.Signatures, borrowed["signatures"].([]any)[0].(map[string]any))
	data, err := json.Marshal(borrowed)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// encode returns the document of a ring of the adversary's own.
func (w *world) encode(r *rotation.Ring) []byte {
	r, err := r.Seal(context.Background(), adversary)
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := r.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// edited returns a ring with its generation and one change more.
func (w *world) edited(ring []byte, change func(map[string]any)) []byte {
	var fields map[string]any
	if err := json.Unmarshal(ring, &fields); err != nil {
		w.t.Fatal(err)
	}
	fields["generation"] = w.ring.Generation + 1
	fields["policy"].(map[string]any)["publishAhead"] = "1m0s"
	change(fields)
	data, err := json.Marshal(fields)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// joins is the adversary as a writer, with endorsements of others.
func (w *world) joins(endorsements any) map[string]any {
	return map[string]any{"id": writerID(adversary).String(), "name": "adversary", "since": w.now.UTC().Format(time.RFC3339), "endorsements": endorsements}
}

// strike revokes a key with the identity that may do nothing else.
func (w *world) strike(kid string) {
	if !w.signed {
		return
	}
	access := rotation.Access{Sealer: glass, Signers: []rotation.WriterID{writerID(operator)}}
	if err := rotation.RevokeAlone(context.Background(), w.cli(), access, kid); err != nil {
		fmt.Fprintln(&w.out, err)
		return
	}
	w.revoked[kid] = true
}

// noteRevocations books the statements that came with the ring.
func (w *world) noteRevocations(next *rotation.Ring) {
	for i := range next.Keys {
		if k := &next.Keys[i]; k.Struck() {
			w.revoked[k.KeyID] = true
		}
	}
}

// struck reports whether a statement revokes a key that the ring does not show as
// revoked yet.
func struck(r *rotation.Ring) bool {
	return slices.ContainsFunc(r.Keys, func(k rotation.Key) bool { return k.Struck() && k.RevokedAt.IsZero() })
}

// TestSimulationAdversary shows replicas what the adversary, and writers that may not
// write any more, can put into the store.
func TestSimulationAdversary(t *testing.T) {
	newcomer := &box{owner: "newcomer"}
	access := func(b *box) rotation.Access {
		return rotation.Access{Sealer: b, Signers: []rotation.WriterID{writerID(operator)}}
	}
	for name, script := range map[string]func(w *world){
		"forgeries": func(w *world) {
			for _, kind := range forgeries {
				w.refuses(kind, w.forgery(kind))
			}
		},
		"a writer that was removed": func(w *world) {
			w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
				return rotation.AddWriter(context.Background(), r, operator, rotation.Writer{ID: writerID(newcomer), Name: "newcomer"}, w.now)
			})
			w.tickAll()
			if _, err := rotation.Update(context.Background(), w.cli(), access(newcomer), func(r *rotation.Ring) (*rotation.Ring, error) {
				return rotation.SetPolicy(r, rotation.Policy{Schedule: "@weekly"}, w.now)
			}); err != nil {
				w.t.Fatalf("invariant 8: a writer cannot write: %v", err)
			}
			w.tickAll()
			with := w.store.Data()
			w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
				return rotation.RemoveWriter(context.Background(), r, operator, "newcomer", w.now)
			})
			w.tickAll()
			w.refusesLater("an old ring", with)
			var before struct{ Writers []any }
			if err := json.Unmarshal(ringOf(w, with), &before); err != nil {
				w.t.Fatal(err)
			}
			now := ringOf(w, w.store.Data())
			digest := sha256.Sum256(append([]byte("oidc-provider ring\n"), now...))
			w.refusesLater("a ring that has forgotten the removal", w.resign(newcomer, w.edited(now, func(ring map[string]any) {
				ring["writers"] = before.Writers
				ring["past"] = append([]any{base64.RawURLEncoding.EncodeToString(digest[:])}, ring["past"].([]any)...)
				delete(ring, "removedWriters")
			})))
			w.refuses("whom it vouches for", w.resign(adversary, w.edited(ringOf(w, w.store.Data()), func(ring map[string]any) {
				ring["writers"] = append(ring["writers"].([]any), w.joins([]any{w.endorsement(newcomer)}))
			})))
		},
		"a revocation, and clocks that nothing confirms": func(w *world) {
			for _, rep := range w.replicas {
				rep.evidence = unknown
				w.start(rep)
			}
			active := w.ring.Active(w.now).KeyID
			before := w.ring.Updated
			w.strike(active)
			w.tickAll()
			if w.ring = w.decode(w.store.Data()); struck(w.ring) || !w.ring.Updated.Equal(before) {
				w.t.Fatalf("invariant 1: key %s is not revoked at %v, the ring's own time", active, before)
			}
			for i, rep := range w.replicas[:3] {
				if s, err := rep.r.Signer(rep.local(w)); err != nil || s.Key.KeyID() == active {
					w.t.Fatalf("invariant 1: replica %d does not sign with the next key: %v", i, err)
				}
			}
		},
		"a fork": func(w *world) {
			change := func(schedule string) (data []byte) {
				w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
					return rotation.SetPolicy(r, rotation.Policy{Schedule: schedule}, w.now)
				})
				return w.store.Data()
			}
			before := w.store.Data()
			w.branch = true
			fork := change("@every 31h")
			w.store.Put(before)
			w.branch = false
			change("@every 32h")
			w.tickAll()
			w.refusesLater("a fork", fork)
			sound := w.store.Data()
			w.branch = true
			w.store.Put(fork)
			further := change("@every 33h")
			w.store.Put(sound)
			w.branch = false
			w.refusesLater("what came after a fork", further)
		},
		"a writer that may only revoke": func(w *world) {
			w.refuses("its signature", w.resign(glass, w.edited(ringOf(w, w.store.Data()), func(map[string]any) {})))
			w.refuses("another role", w.resign(glass, w.edited(ringOf(w, w.store.Data()), func(ring map[string]any) {
				for _, writer := range ring["writers"].([]any) {
					delete(writer.(map[string]any), "revokeOnly")
				}
			})))
			w.refuses("whom it vouches for", w.resign(adversary, w.edited(ringOf(w, w.store.Data()), func(ring map[string]any) {
				ring["writers"] = append(ring["writers"].([]any), w.joins([]any{w.endorsement(glass)}))
			})))
		},
		"revocations": func(w *world) {
			active := w.ring.Active(w.now).KeyID
			sound := w.store.Data()
			forged := bytes.Replace(sound, []byte("\n  \"ring\""), fmt.Appendf(nil, "\n  \"revocations\": [{\"kid\": %q, \"writer\": %q, \"signature\": %q}],\n  \"ring\"",
				active, writerID(glass), base64.StdEncoding.EncodeToString(make([]byte, 64))), 1)
			w.store.Put(forged)
			w.tickAll()
			if w.ring = w.decode(w.store.Data()); struck(w.ring) || !w.ring.Active(w.now).Published() {
				w.t.Fatalf("invariant 8: a forged revocation counts")
			}
			for _, rep := range w.replicas[:3] {
				rep.r = nil // only the one that publishes is left
			}
			w.strike(active)
			w.tickAll()
			w.store.Put(sound) // and what it has seen is taken away
			w.tickAll()
			for _, rep := range w.replicas {
				if rep.r != nil && rep.shows(active) {
					w.t.Fatalf("invariant 4: a key that was revoked is published again")
				}
			}
			w.start(w.replicas[3])
			if w.replicas[3].shows(active) {
				w.t.Fatalf("invariant 4: a key that was revoked is published again after a restart")
			}
			w.strike(active)
			w.start(w.replicas[0])
			w.tickAll()
			if w.ring = w.decode(w.store.Data()); struck(w.ring) || w.ring.Active(w.now).KeyID == active {
				w.t.Fatalf("progress: no server has revoked key %s in the ring", active)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range storetest.Kinds {
				w := newWorld(t, rotation.DefaultPolicy, kind, true)
				w.replicas[0].allows = true
				w.start(w.replicas[0])
				w.pass(time.Hour)
				script(w)
			}
		})
	}
}

func (w *world) tickAll() {
	for _, rep := range w.replicas {
		w.tick(rep)
	}
}

// refuses shows bad to every replica and to an operator.
func (w *world) refuses(what string, bad []byte) {
	good := w.store.Data()
	w.store.Put(bad)
	w.kept = true
	w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
		return rotation.SetPolicy(r, rotation.Policy{Schedule: "@every 31h"}, w.now)
	})
	if !bytes.Equal(w.store.Data(), bad) {
		w.t.Fatalf("invariant 8: an operator changes %s", what)
	}
	w.store.Put(good)
	w.refusesLater(what, bad)
}

// refusesLater shows bad to every replica, while it runs and when it starts again,
// and then the ring. An operator remembers nothing.
func (w *world) refusesLater(what string, bad []byte) {
	good := w.store.Data()
	before := w.decode(good)
	w.store.Put(bad)
	w.kept = true
	for i, rep := range w.replicas {
		w.tick(rep)
		if rep.r == nil || rep.r.View().Ring().Generation != before.Generation || rep.r.Failure() == nil {
			w.t.Fatalf("invariant 8: replica %d accepts %s", i, what)
		}
		w.start(rep)
		if rep.r != nil {
			w.t.Fatalf("invariant 8: replica %d starts with %s", i, what)
		}
	}
	w.kept = false
	w.store.Put(good)
	for i, rep := range w.replicas {
		if w.start(rep); rep.r == nil {
			w.t.Fatalf("replica %d does not start with the ring after %s", i, what)
		}
	}
}

// ringOf returns the ring in a document.
func ringOf(w *world, data []byte) []byte {
	var doc struct{ Ring json.RawMessage }
	if err := json.Unmarshal(data, &doc); err != nil {
		w.t.Fatal(err)
	}
	return doc.Ring
}

// resign returns the document of a ring that b has signed.
func (w *world) resign(b *box, ring []byte) []byte {
	keys, _ := b.WriterKeys(context.Background(), nil)
	data, err := json.Marshal(map[string]any{"version": 3, "ring": json.RawMessage(ring), "signatures": []any{
		map[string]any{"writer": keys[0].ID().String(), "signature": keys[0].Sign(append([]byte("oidc-provider ring\n"), ring...))}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// endorsement returns that of b for the adversary.
func (w *world) endorsement(b *box) map[string]any {
	keys, _ := b.WriterKeys(context.Background(), nil)
	message := fmt.Appendf(nil, "oidc-provider writer\n%s\nfull\n%s", simIssuer, writerID(adversary))
	return map[string]any{"writer": keys[0].ID().String(), "signature": keys[0].Sign(message)}
}
