package fleet_test

import (
	"crypto/ed25519"
	"strings"
)

// The attacks of writers who were never let in, or not any more.

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
