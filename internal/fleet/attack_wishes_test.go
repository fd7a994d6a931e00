package fleet_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
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
