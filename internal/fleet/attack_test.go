package fleet_test

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"oidc-provider/rotation"
)

// An attack is a document that someone puts in place of the ring who may write the
// store, and is no writer of the ring.
type attack struct {
	name string
	doc  func(*world) []byte // nil removes the ring

	// reason is in the report of a server that runs, and atStart in that of one that
	// is started, if that is not the reason. Each is one of several, with | between.
	reason, atStart string

	// wellFormed documents fail only because nobody trusts them: a server that
	// trusted everyone would use them.
	wellFormed bool

	// stateOnly says that a server that is started without rollback state cannot
	// know better: a writer has signed this, or had.
	stateOnly bool

	// brief attacks differ from another one only in what the attacker wants. They save
	// time: no server is started with rollback state, and none learns at first use.
	brief bool

	// harmless documents are the good ring, with another envelope. No alarm rings.
	harmless bool
}

// A change is what an attacker wants.
var wishes = []struct {
	name   string
	change func(ring object)
}{
	{"publish a key", func(ring object) {
		key, _ := newKey(ring)
		key["verifyOnly"] = true
		add(ring, "keys", key)
	}},
	{"let kube-apiserver accept a hidden key", func(ring object) {
		key, _ := newKey(ring)
		key["verifyOnly"], key["excludeFromDiscovery"] = true, true
		add(ring, "keys", key)
	}},
	{"hide the next key", func(ring object) {
		_, active, next := keysOf(ring)
		delete(active, "signUntil")
		add(ring, "removed", next["kid"])
		drop(ring, "keys", func(k object) bool { return k["kid"] == next["kid"] })
	}},
	{"revoke the next key", func(ring object) {
		_, active, next := keysOf(ring)
		delete(active, "signUntil")
		delete(next, "sealed")
		next["revokedAt"] = ring["updated"]
	}},
	{"sign at once with a key that is sealed for the recipients", func(ring object) {
		_, active, next := keysOf(ring)
		key, private := newKey(ring)
		key["sealed"] = sealFor(ring, private)
		active["signUntil"], key["signFrom"], key["signUntil"] = ring["updated"], ring["updated"], next["signFrom"]
		add(ring, "keys", key)
	}},
	{"sign with the next key at once", func(ring object) {
		_, active, next := keysOf(ring)
		active["signUntil"], next["signFrom"] = ring["updated"], ring["updated"]
	}},
	{"add a recipient", func(ring object) {
		add(ring, "recipients", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	}},
	{"downgrade to plain, and sign", func(ring object) {
		_, active, next := keysOf(ring)
		delete(ring, "recipients")
		delete(active, "sealed")
		key, private := newKey(ring)
		key["private"], key["signFrom"], active["signUntil"] = private, ring["updated"], ring["updated"]
		add(ring, "removed", next["kid"])
		drop(ring, "keys", func(k object) bool { return k["kid"] == next["kid"] })
		add(ring, "keys", key)
	}},
	{"shorten publish-ahead", func(ring object) { ring["policy"].(object)["publishAhead"] = "1m0s" }},
	{"shorten the clock skew", func(ring object) { ring["policy"].(object)["clockSkew"] = "1s" }},
	{"lengthen tokens", func(ring object) { ring["policy"].(object)["maxTokenLifetime"] = "8760h0m0s" }},
	{"rotate every second", func(ring object) { ring["policy"].(object)["schedule"] = "@every 1s" }},
	{"restore the revoked key", func(ring object) {
		revoked, _, _ := keysOf(ring)
		delete(revoked, "revokedAt")
	}},
	{"add a copy that never confirms", func(ring object) {
		add(ring, "copies", object{"name": "nobody", "since": ring["updated"]})
	}},
	{"stop all later changes", func(ring object) {
		ring["generation"] = json.Number("9223372036854775807")
	}},
	{"write from the far future", func(ring object) { ring["updated"] = "2999-01-01T00:00:00Z" }},
	{"remove the writers", func(ring object) {
		for _, w := range list(ring, "writers") {
			add(ring, "removedWriters", w["id"])
		}
		drop(ring, "writers", func(object) bool { return true })
		drop(ring, "writers", func(object) bool { return true })
		delete(ring, "writerSeed")
	}},
	{"remove the seed", func(ring object) { delete(ring, "writerSeed") }},
	{"replace the seed", func(ring object) { ring["writerSeed"] = bytes.Repeat([]byte("x"), 100) }},
}

const (
	unfit     = "no signature of one of its writers fits it"
	stranger  = "for whom no trusted writer has vouched"
	wasSigned = "the ring is not signed, and it was signed before"
	isPast    = "this is an old backup, or another ring" // which a start finds before everything else
)

// attacks returns the rows: each wish, signed in three ways, and everything else.
func attacks() (rows []attack) {
	for i, wish := range wishes {
		rows = append(rows,
			attack{name: wish.name + ", under the old signature", reason: unfit + "|version 3 with 0 copies", brief: i > 0, doc: func(w *world) []byte {
				ring, f := followed(w.good), openForgery(w.good)
				wish.change(ring)
				f.Ring = encode(ring)
				return f.bytes()
			}},
			attack{name: wish.name + ", signed by a writer that adds itself", reason: stranger, atStart: stranger + "|" + isPast, wellFormed: true, brief: i > 0, doc: func(w *world) []byte {
				ring, key := followed(w.good), newWriterKey()
				wish.change(ring)
				add(ring, "writers", newWriter(key, endorsement(key, key, "full")))
				return signed(ring, key)
			}},
			attack{name: wish.name + ", unsigned", reason: wasSigned, atStart: "not signed|" + isPast, wellFormed: true, brief: i > 0, doc: func(w *world) []byte {
				ring := followed(w.good)
				wish.change(ring)
				return unsigned(ring)
			}})
	}
	rows = append(rows, writerAttacks...)
	rows = append(rows, envelopeAttacks...)
	rows = append(rows, replays...)
	return append(rows, rubbish...)
}

// wish changes ring as the first of wishes.
func wish(ring object) { wishes[0].change(ring) }

// intrude returns a ring with the key of an attacker, signed by a writer with these
// endorsements.
func intrude(endorsements func(w *world, ring object, intruder ed25519.PrivateKey) []any) func(*world) []byte {
	return func(w *world) []byte {
		ring, key := followed(w.good), newWriterKey()
		wish(ring)
		add(ring, "writers", newWriter(key, endorsements(w, ring, key)...))
		return signed(ring, key)
	}
}

var writerAttacks = []attack{
	{name: "a writer without endorsements", reason: stranger, wellFormed: true,
		doc: intrude(func(*world, object, ed25519.PrivateKey) []any { return nil })},
	{name: "a writer with the endorsements of others", reason: stranger, wellFormed: true,
		doc: intrude(func(_ *world, ring object, _ ed25519.PrivateKey) (copied []any) {
			for _, w := range list(ring, "writers") {
				endorsements, _ := w["endorsements"].([]any)
				copied = append(copied, endorsements...)
			}
			return copied
		})},
	{name: "a writer with a forged endorsement", reason: stranger, wellFormed: true,
		doc: intrude(func(w *world, _ object, intruder ed25519.PrivateKey) []any {
			forged := endorsement(intruder, intruder, "full")
			forged["writer"] = w.writer
			return []any{forged}
		})},
	{name: "a writer with the signature of a ring as an endorsement", reason: stranger, wellFormed: true,
		doc: intrude(func(w *world, _ object, _ ed25519.PrivateKey) []any {
			return []any{openForgery(w.good).Signatures[0]}
		})},
	{name: "two writers that endorse each other", reason: stranger, wellFormed: true, doc: func(w *world) []byte {
		ring, one, two := followed(w.good), newWriterKey(), newWriterKey()
		wish(ring)
		add(ring, "writers", newWriter(one, endorsement(two, one, "full")), newWriter(two, endorsement(one, two, "full")))
		return signed(ring, one, two)
	}},
	{name: "a writer endorsed by the one that may only revoke", reason: stranger, wellFormed: true,
		doc: intrude(func(w *world, _ object, intruder ed25519.PrivateKey) []any {
			return []any{endorsement(writerKey(w.revoker), intruder, "full")}
		})},
	{name: "a writer endorsed by the one that may only revoke, which is not in the ring any more", reason: stranger,
		wellFormed: true, doc: func(w *world) []byte {
			ring, key := followed(w.good), newWriterKey()
			wish(ring)
			drop(ring, "writers", func(o object) bool { return o["id"] == writerID(writerKey(w.revoker)) })
			add(ring, "writers", newWriter(key, endorsement(writerKey(w.revoker), key, "full")))
			return signed(ring, key)
		}},
	{name: "a writer endorsed by a removed one", reason: stranger, wellFormed: true, stateOnly: true,
		doc: intrude(func(w *world, _ object, intruder ed25519.PrivateKey) []any {
			return []any{endorsement(writerKey(w.removed), intruder, "full")}
		})},
	{name: "signed by the writer that may only revoke", reason: unfit, doc: func(w *world) []byte {
		ring := followed(w.good)
		wish(ring)
		return signed(ring, writerKey(w.revoker))
	}},
	{name: "signed by the writer that may only revoke, in another role", reason: stranger, wellFormed: true,
		doc: func(w *world) []byte {
			ring, key := followed(w.good), writerKey(w.revoker)
			wish(ring)
			for _, o := range list(ring, "writers") {
				if o["id"] == writerID(key) {
					delete(o, "revokeOnly")
				}
			}
			return signed(ring, key)
		}},
	{name: "signed by the writer that may only revoke, which is in the ring twice", reason: "is in it twice",
		doc: func(w *world) []byte {
			ring, key := followed(w.good), writerKey(w.revoker)
			wish(ring)
			add(ring, "writers", newWriter(key, endorsement(key, key, "full")))
			return signed(ring, key)
		}},
	{name: "the seed and the writers of another ring", reason: unfit, doc: func(w *world) []byte {
		ring, other := followed(w.good), openForgery(w.twin)
		wish(ring)
		ring["writers"], ring["writerSeed"] = other.ring()["writers"], other.ring()["writerSeed"]
		other.Ring = encode(ring)
		return other.bytes()
	}},
	{name: "the seed of another ring, signed by a writer that adds itself", reason: stranger, wellFormed: true,
		doc: func(w *world) []byte {
			ring, key := followed(w.good), newWriterKey()
			wish(ring)
			if seed := openForgery(w.twin).ring()["writerSeed"]; seed != nil {
				ring["writerSeed"] = seed
			}
			add(ring, "writers", newWriter(key, endorsement(key, key, "full")))
			return signed(ring, key)
		}},
	{name: "signed by a removed writer", reason: unfit, doc: func(w *world) []byte {
		ring := followed(w.good)
		wish(ring)
		return signed(ring, writerKey(w.removed))
	}},
	{name: "signed by a removed writer that adds itself", reason: "is in it twice", doc: func(w *world) []byte {
		ring := followed(w.good)
		wish(ring)
		add(ring, "writers", returned(w))
		return signed(ring, writerKey(w.removed))
	}},
	{name: "signed by a removed writer, without the note that it was removed", reason: stranger, atStart: stranger + "|" + isPast,
		wellFormed: true, stateOnly: true, doc: func(w *world) []byte {
			ring := followed(w.good)
			wish(ring)
			delete(ring, "removedWriters")
			add(ring, "writers", returned(w))
			return signed(ring, writerKey(w.removed))
		}},
	{name: "signed by an older writer, in place of the newest generation", reason: stranger, atStart: stranger + "|" + isPast,
		wellFormed: true, stateOnly: true, doc: func(w *world) []byte {
			ring := followed(w.removing)
			ring["generation"] = openForgery(w.good).ring()["generation"]
			wish(ring)
			return signed(ring, writerKey(w.removed))
		}},
}

// returned returns the removed writer, as it was.
func returned(w *world) (writer object) {
	for _, o := range list(openForgery(w.unrevoked).ring(), "writers") {
		if o["id"] == writerID(writerKey(w.removed)) {
			return o
		}
	}
	panic("the ring did not have the writer")
}

// reopened changes the envelope of the good ring.
func reopened(change func(*world, *forgery)) func(*world) []byte {
	return func(w *world) []byte {
		f := openForgery(w.good)
		change(w, &f)
		return f.bytes()
	}
}

// with adds members to an envelope, before those that it has or after them.
func with(document []byte, before, after string) []byte {
	text := strings.TrimSpace(string(document))
	return []byte("{" + before + text[1:len(text)-1] + after + "}")
}

// intruded is the ring of an attacker that has the good signature around it.
func intruded(w *world) []byte {
	ring := followed(w.good)
	wish(ring)
	return encode(ring)
}

var envelopeAttacks = []attack{
	{name: "no envelope", reason: "a signed ring without its signatures",
		doc: func(w *world) []byte { return openForgery(w.good).Ring }},
	{name: "no envelope, as an older version", reason: "version 1 with 0 copies", doc: func(w *world) []byte {
		ring := followed(w.good)
		ring["version"] = 1
		return encode(ring)
	}},
	{name: "no signature", reason: unfit, doc: reopened(func(_ *world, f *forgery) { f.Signatures = nil })},
	{name: "the signature of the ring before", reason: unfit,
		doc: reopened(func(w *world, f *forgery) { f.Signatures = openForgery(w.removing).Signatures })},
	{name: "the ring before with the newest signature", reason: unfit,
		doc: reopened(func(w *world, f *forgery) { f.Ring = openForgery(w.removing).Ring })},
	{name: "a signature in another form", reason: unfit, doc: reopened(func(_ *world, f *forgery) {
		f.Signatures[0]["signature"] = malleated(f.Signatures[0]["signature"].(string))
	})},
	{name: "a flipped bit", reason: unfit, doc: reopened(func(_ *world, f *forgery) {
		sig, _ := base64.StdEncoding.DecodeString(f.Signatures[0]["signature"].(string))
		sig[0] ^= 1
		f.Signatures[0]["signature"] = sig
	})},
	{name: "other white space", reason: unfit, doc: reopened(func(_ *world, f *forgery) {
		f.Ring = append([]byte("{ "), f.Ring[1:]...)
	})},
	{name: "more signatures", harmless: true, doc: reopened(func(w *world, f *forgery) {
		f.Signatures = append(f.Signatures, signature(newWriterKey(), []byte("x")), signature(writerKey(w.revoker), []byte("x")))
	})},
	{name: "a thousand signatures", reason: "1001 signatures", doc: reopened(func(w *world, f *forgery) {
		for range 1000 {
			f.Signatures = append(f.Signatures, f.Signatures[0])
		}
	})},
	{name: "a thousand revocations", reason: "1000 revocations", doc: reopened(func(w *world, f *forgery) {
		for range 1000 {
			f.Revocations = append(f.Revocations, revocation(writerKey(w.revoker), "x"))
		}
	})},
	{name: "a thousand endorsements", reason: "too many endorsements", doc: intrude(
		func(w *world, _ object, intruder ed25519.PrivateKey) []any {
			return forgedEndorsements(w, intruder, 1000)
		})},
	{name: "as many endorsements as possible", reason: stranger, wellFormed: true, doc: func(w *world) []byte {
		ring := followed(w.good)
		wish(ring)
		var keys []ed25519.PrivateKey
		for len(list(ring, "writers")) < 16 {
			key := newWriterKey()
			keys = append(keys, key)
			add(ring, "writers", newWriter(key, forgedEndorsements(w, key, 16)...))
		}
		return signed(ring, keys...)
	}},
	{name: "a second ring after the first", reason: unfit,
		doc: func(w *world) []byte { return with(w.good, "", `,"ring":`+string(intruded(w))) }},
	{name: "a second ring after the first, with a capital letter", reason: unfit,
		doc: func(w *world) []byte { return with(w.good, "", `,"Ring":`+string(intruded(w))) }},
	{name: "a second ring before the first", harmless: true,
		doc: func(w *world) []byte { return with(w.good, `"ring":`+string(intruded(w))+",", "") }},
	{name: "null after the ring", reason: "issuer, generation or time of the last write is missing", doc: func(w *world) []byte { return with(w.good, "", `,"ring":null`) }},
	{name: "a second version", reason: "unknown field", doc: func(w *world) []byte { return with(w.good, "", `,"version":1`) }},
	{name: "an unknown member", reason: "unknown field", doc: func(w *world) []byte { return with(w.good, `"keys":[],`, "") }},
	{name: "another document after it", reason: "not a complete JSON document",
		doc: func(w *world) []byte { return slices.Concat(w.good, w.unsigned) }},
	{name: "a forged revocation", harmless: true, doc: reopened(func(w *world, f *forgery) {
		_, active, _ := keysOf(f.ring())
		forged := revocation(newWriterKey(), active["kid"].(string))
		forged["writer"] = w.writer
		f.Revocations = append(f.Revocations, forged)
	})},
	{name: "a revocation by a stranger and a removed writer", harmless: true, doc: reopened(func(w *world, f *forgery) {
		_, active, next := keysOf(f.ring())
		f.Revocations = append(f.Revocations, revocation(newWriterKey(), active["kid"].(string)),
			revocation(writerKey(w.removed), next["kid"].(string)))
	})},
	{name: "the revocation of another issuer's key", harmless: true, doc: reopened(func(w *world, f *forgery) {
		_, active, _ := keysOf(f.ring())
		kid := active["kid"].(string)
		statement := signature(writerKey(w.revoker), fmt.Appendf(nil, "oidc-provider revocation\nhttps://other.test\n%s", kid))
		statement["kid"] = kid
		f.Revocations = append(f.Revocations, statement)
	})},
	{name: "marked as a backup", reason: unfit, doc: reopened(func(w *world, f *forgery) {
		f.Backup = openForgery(w.backup).Backup
	})},
}

// forgedEndorsements returns n endorsements of the ring's own writer, which cost as
// much to verify as real ones.
func forgedEndorsements(w *world, of ed25519.PrivateKey, n int) (all []any) {
	forged := endorsement(of, of, "full")
	forged["writer"] = w.writer
	for range n {
		all = append(all, forged)
	}
	return all
}

var replays = []attack{
	{name: "the ring from before it was signed", reason: wasSigned, atStart: "not signed|" + isPast, wellFormed: true,
		doc: func(w *world) []byte { return w.unsigned }},
	{name: "the first signed ring", reason: isPast, wellFormed: true, stateOnly: true,
		doc: func(w *world) []byte { return w.first }},
	{name: "the ring with the revoked key", reason: isPast, wellFormed: true, stateOnly: true,
		doc: func(w *world) []byte { return w.unrevoked }},
	{name: "another ring of the same generation", reason: "has another history", wellFormed: true, stateOnly: true,
		doc: func(w *world) []byte { return w.fork }},
	{name: "another ring of this issuer", reason: isPast + "|" + stranger, wellFormed: true, stateOnly: true,
		doc: func(w *world) []byte { return w.twin }},
	{name: "the ring of another issuer", reason: "belongs to issuer", wellFormed: true,
		doc: func(w *world) []byte { return w.elsewhere }},
	{name: "a backup for others", reason: "this is a backup", doc: func(w *world) []byte { return w.backup }},
	{name: "a backup for others, not marked as one", reason: unfit, doc: func(w *world) []byte {
		f := openForgery(w.backup)
		f.Backup = ""
		return f.bytes()
	}},
}

var rubbish = []attack{
	{name: "no ring", reason: "it has disappeared", doc: func(*world) []byte { return nil }},
	{name: "an empty file", reason: "0 bytes are not a complete JSON document", doc: func(*world) []byte { return []byte{} }},
	{name: "unreadable bytes", reason: "not a complete JSON document", doc: func(*world) []byte { return []byte{0, 255, '{'} }},
	{name: "half a ring", reason: "not a complete JSON document", doc: func(w *world) []byte { return w.good[:len(w.good)/2] }},
	{name: "another JSON document", reason: "this JSON document is not a ring", doc: func(*world) []byte { return []byte("{}") }},
	{name: "a newer version", reason: "upgrade oidc-provider", doc: func(w *world) []byte {
		f := openForgery(w.good)
		f.Version = 99
		return f.bytes()
	}},
	{name: "deep JSON", reason: "not a complete JSON document",
		doc: func(*world) []byte { return bytes.Repeat([]byte(`{"ring":`), 100_000) }},
}

// TestAttacks puts each forged document into the store of a server of each kind. A
// server that runs does not change what its clients see, and rings the alarm until the
// good ring is back. One that is started then publishes and signs nothing.
func TestAttacks(t *testing.T) {
	rows := attacks()
	found := make([][]error, len(attackedKinds)*len(rows)) // by kind and row
	var wg sync.WaitGroup
	for k, kind := range attackedKinds {
		w := newWorld(t, kind)
		work := make(chan int)
		for range lanes {
			wg.Go(func() { attackAll(t, w, rows, work, found[k*len(rows):]) })
		}
		wg.Go(func() {
			for i := range rows {
				if kind != "first use" || !rows[i].brief {
					work <- i
				}
			}
			close(work)
		})
	}
	wg.Wait()
	for k, kind := range attackedKinds {
		t.Run(strings.ReplaceAll(kind, " ", "-"), func(t *testing.T) {
			for i, row := range rows {
				if kind == "first use" && row.brief {
					continue
				}
				t.Run(row.name, func(t *testing.T) {
					for _, err := range found[k*len(rows)+i] {
						t.Error(err)
					}
				})
			}
		})
	}
}

// lanes is how many servers of a kind are attacked at the same time: each takes up to
// two polls of the store for an attack.
const lanes = 10

// attackAll attacks a server with the rows that it receives.
func attackAll(t *testing.T, w *world, rows []attack, work <-chan int, found [][]error) {
	s, err := startServer(t, w, w.good, "")
	if err == nil {
		defer s.stop()
		err = s.settled(w.good, time.Now())
	}
	for i := range work {
		if found[i] = []error{err}; err == nil {
			found[i] = attackOnce(t, s, rows[i])
		}
	}
}

// attackOnce returns what the attack has achieved.
func attackOnce(t *testing.T, s *server, row attack) (found []error) {
	fail := func(format string, args ...any) { found = append(found, fmt.Errorf(format, args...)) }
	doc := row.doc(s.world)
	if _, err := rotation.Decode(doc); row.wellFormed && err != nil {
		fail("the document is not well-formed: %w", err)
	}
	before, put := s.see(answers), time.Now()
	if err := s.put(doc); err != nil {
		return append(found, err)
	}
	if row.harmless {
		if err := s.settled(doc, put); err != nil {
			fail("while it runs: %w", err)
		}
	} else if err := s.refused(row.reason); err != nil {
		fail("while it runs: %w", err)
	}
	if after := s.see(answers); after != before || before.keySet == "" || s.signs && before.signer == "" {
		fail("while it runs: clients saw\n%+v\nand now see\n%+v", before, after)
	}
	if !bytes.Equal(s.ring(), doc) {
		fail("while it runs: the server has written over the document")
	}
	for _, from := range []string{s.state, "none"} {
		needed := row.stateOnly || s.world.kind == "first use"
		if from == "none" && needed || from != "none" && row.brief && !needed {
			continue
		}
		if err := restarted(t, s, row, doc, from, before); err != nil {
			fail("when it is started, with the rollback state in %s: %w", from, err)
		}
	}
	put = time.Now()
	if err := errors.Join(s.put(s.world.good), s.settled(s.world.good, put)); err != nil {
		fail("with the good ring again: %w", err)
	}
	if after := s.see(answers); after != before {
		fail("with the good ring again: clients saw\n%+v\nand now see\n%+v", before, after)
	}
	return found
}

// restarted starts another server like s on the document.
func restarted(t *testing.T, s *server, row attack, doc []byte, from string, good clientsView) error {
	if doc == nil {
		return nil // a store that is empty at the start is another error
	}
	next, err := startServer(t, s.world, doc, from)
	if err != nil {
		return err
	}
	defer next.stop()
	if row.harmless {
		if err := next.await("it serves", func() bool { return next.see(answers) == good }); err != nil {
			return err
		}
		return nil
	}
	if err := next.refused(cmp.Or(row.atStart, row.reason)); err != nil {
		return err
	}
	if v := next.see(100 * time.Millisecond); v.keySet != "" || v.signer != "" || v.keys != "" {
		return fmt.Errorf("clients see %+v", v)
	}
	if !bytes.Equal(next.ring(), doc) {
		return errors.New("the server has written over the document")
	}
	return nil
}
