package fleet_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"

	"filippo.io/age"
	"github.com/go-jose/go-jose/v4"

	"oidc-provider/jwks"
)

// This file has the tools of an attacker. They know the format of the documents from
// reading them, and use nothing of package rotation.

type object = map[string]any

// A forgery is the envelope of a ring, its members as they are.
type forgery struct {
	Version     int             `json:"version"`
	Signatures  []object        `json:"signatures"`
	Revocations []object        `json:"revocations"`
	Backup      string          `json:"backup"`
	Ring        json.RawMessage `json:"ring"`
}

func openForgery(document []byte) (f forgery) {
	check(json.Unmarshal(document, &f))
	return f
}

// bytes writes the ring as it is: package json would change it.
func (f forgery) bytes() []byte {
	out := fmt.Appendf(nil, `{"version":%d,"signatures":%s,"revocations":%s,`, f.Version, encode(f.Signatures), encode(f.Revocations))
	if f.Backup != "" {
		out = fmt.Appendf(out, `"backup":%q,`, f.Backup)
	}
	return fmt.Appendf(out, `"ring":%s}`, f.Ring)
}

func (f forgery) ring() (ring object) {
	dec := json.NewDecoder(bytes.NewReader(f.Ring))
	dec.UseNumber()
	check(dec.Decode(&ring))
	return ring
}

func ringMessage(ring []byte) []byte { return append([]byte("oidc-provider ring\n"), ring...) }

// followed returns the ring that comes after document, unchanged so far.
func followed(document []byte) object {
	f := openForgery(document)
	ring := f.ring()
	digest := sha256.Sum256(ringMessage(f.Ring))
	past, _ := ring["past"].([]any)
	past = append([]any{base64.RawURLEncoding.EncodeToString(digest[:])}, past...)
	ring["past"] = past[:min(len(past), 64)]
	generation, err := ring["generation"].(json.Number).Int64()
	check(err)
	ring["generation"] = generation + 1
	return ring
}

// signed returns the document of ring with the signatures of keys.
func signed(ring object, keys ...ed25519.PrivateKey) []byte {
	f := forgery{Version: 3, Ring: encode(ring)}
	for _, key := range keys {
		f.Signatures = append(f.Signatures, signature(key, ringMessage(f.Ring)))
	}
	return f.bytes()
}

// unsigned returns the document of ring without any writer.
func unsigned(ring object) []byte {
	ring["version"] = 1
	if ring["copies"] != nil {
		ring["version"] = 2
	}
	for _, name := range []string{"writers", "removedWriters", "writerSeed", "past"} {
		delete(ring, name)
	}
	return encode(ring)
}

func writerID(key ed25519.PrivateKey) string {
	return "ed25519:" + base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
}

func signature(key ed25519.PrivateKey, message []byte) object {
	return object{"writer": writerID(key), "signature": ed25519.Sign(key, message)}
}

// writerKey returns the key that an identity signs rings with.
func writerKey(id *age.X25519Identity) ed25519.PrivateKey {
	seed, err := hkdf.Key(sha256.New, []byte(id.String()), nil, "oidc-provider ring writer v1", ed25519.SeedSize)
	check(err)
	return ed25519.NewKeyFromSeed(seed)
}

func newWriterKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(nil)
	check(err)
	return key
}

func newWriter(key ed25519.PrivateKey, endorsements ...any) object {
	return object{"id": writerID(key), "name": "age1x", "since": "2026-01-01T00:00:00Z", "endorsements": endorsements}
}

func endorsement(by, of ed25519.PrivateKey, role string) object {
	return signature(by, fmt.Appendf(nil, "oidc-provider writer\n%s\n%s\n%s", attackedIssuer, role, writerID(of)))
}

func revocation(by ed25519.PrivateKey, kid string) object {
	statement := signature(by, fmt.Appendf(nil, "oidc-provider revocation\n%s\n%s", attackedIssuer, kid))
	statement["kid"] = kid
	return statement
}

// list returns the objects in a member of ring.
func list(ring object, name string) (objects []object) {
	members, _ := ring[name].([]any)
	for _, o := range members {
		objects = append(objects, o.(object))
	}
	return objects
}

func add(ring object, name string, values ...any) {
	members, _ := ring[name].([]any)
	ring[name] = append(slices.Clone(members), values...)
}

func drop(ring object, name string, which func(object) bool) {
	ring[name] = slices.DeleteFunc(slices.Clone(ring[name].([]any)), func(o any) bool { return which(o.(object)) })
}

// keysOf returns the keys of the ring that every world has.
func keysOf(ring object) (revoked, active, next object) {
	keys := list(ring, "keys")
	return keys[0], keys[1], keys[2]
}

// newKey returns a key of the attacker, for a ring.
func newKey(ring object) (key object, private []byte) {
	k, err := jwks.Generate(jose.ES256, 0)
	check(err)
	private, err = k.PKCS8()
	check(err)
	return object{
		"kid": k.KeyID(), "algorithm": "ES256", "public": k.PKIX(), "created": ring["updated"], "publishAt": ring["updated"],
		"publishAhead": "24h0m0s", "retention": "24h10m0s",
	}, private
}

// sealFor seals for the age recipients of ring, or for the attacker if there are none.
func sealFor(ring object, plain []byte) []byte {
	var to []age.Recipient
	for _, text := range ring["recipients"].([]any) {
		if r, err := age.ParseX25519Recipient(text.(string)); err == nil {
			to = append(to, r)
		}
	}
	if len(to) == 0 {
		id, err := age.GenerateX25519Identity()
		check(err)
		to = append(to, id.Recipient())
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	check(err)
	_, err = w.Write(plain)
	check(err)
	check(w.Close())
	return out.Bytes()
}

// malleated returns another encoding of an Ed25519 signature, which strict verifiers
// refuse: S + L instead of S.
func malleated(text string) []byte {
	sig, err := base64.StdEncoding.DecodeString(text)
	check(err)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	slices.Reverse(sig[32:])
	sum := new(big.Int).SetBytes(sig[32:])
	sum.Add(sum, order).FillBytes(sig[32:])
	slices.Reverse(sig[32:])
	return sig
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	check(err)
	return data
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
