package fleet_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
)

// The attacks with documents that are broken, old, or of another kind.

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
