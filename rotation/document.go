package rotation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"oidc-provider/internal/hint"
)

// This file has the document that a store holds: an unsigned ring in JSON, or an
// envelope with a ring, signatures of its writers and revocations.
//
// A signature covers the bytes of the ring as they are in the envelope, so that no
// canonical form of JSON is needed.

// An envelope is the document of a signed ring.
type envelope struct {
	Version    int         `json:"version"`
	Signatures []Signature `json:"signatures"`

	// Revocations are made by writers that may not sign the ring, or cannot reach
	// those that do. The next ring has them.
	Revocations []Revocation `json:"revocations,omitempty"`

	// Backup is set in a backup whose private keys are sealed for others than those
	// of the ring: the digest of that ring. No server uses such a document.
	Backup Digest `json:"backup,omitzero"`

	// Ring has the bytes that are signed.
	Ring json.RawMessage `json:"ring"`
}

// message returns what a writer signs, and what the digest is of.
func (e *envelope) message() []byte {
	if e.Backup.IsZero() {
		return append([]byte("oidc-provider ring\n"), e.Ring...)
	}
	return fmt.Appendf(nil, "oidc-provider backup\n%x\n%s", e.Backup, e.Ring)
}

// A Revocation is the signed statement that a key must not be used any more.
type Revocation struct {
	KeyID string `json:"kid"`
	Signature
}

// A Digest identifies a ring: SHA-256 of what its writer signs.
type Digest [sha256.Size]byte

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) {
	return []byte(base64.RawURLEncoding.EncodeToString(d[:])), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(text []byte) error {
	data, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	if err != nil || len(data) != len(d) {
		return errors.New("not a SHA-256 digest in base64url")
	}
	*d = Digest(data)
	return nil
}

// IsZero reports whether d is of no ring.
func (d Digest) IsZero() bool { return d == Digest{} }

// A source is the document that a ring was read from, or was encoded to.
type source struct {
	document []byte
	digest   Digest // these three are zero if it is not signed
	envelope *envelope
	signers  []WriterID // whose signature fits
}

// revocationMessage returns what revokes a key.
func revocationMessage(issuer, kid string) []byte {
	return fmt.Appendf(nil, "oidc-provider revocation\n%s\n%s", issuer, kid)
}

const maxRevocations = 64

// An UntrustedError is the reason why a ring is refused: it does not have a
// signature that counts here.
type UntrustedError struct {
	Reason string
	hint   string
}

func (e *UntrustedError) Error() string { return e.Reason }

// Hint returns what to do about it.
func (e *UntrustedError) Hint() string { return e.hint }

const forged = "find out who wrote it: anyone who may write the store can have done that; " +
	"`oidc-provider keys restore` puts back a backup"

var errStripped = &UntrustedError{"this is a signed ring without its signatures", forged}

// openEnvelope decodes the envelope in data, and verifies what is in it with the keys of
// the writers that it names itself. Whether these may be believed is not its matter.
func openEnvelope(data []byte) (*Ring, error) {
	e := new(envelope)
	if err := unmarshal(data, e); err != nil {
		return nil, hint.Wrap(err, restore)
	}
	if len(e.Signatures) > maxWriters || len(e.Revocations) > maxRevocations {
		return nil, hint.Errorf(restore, "it has %d signatures and %d revocations: at most %d and %d are possible",
			len(e.Signatures), len(e.Revocations), maxWriters, maxRevocations)
	}
	r, err := decodeRing(e.Ring)
	switch {
	case err != nil:
		return nil, err
	case !r.Signed():
		return nil, hint.Errorf(restore, "its ring has no writers")
	}
	message := e.message()
	r.source = &source{document: data, digest: sha256.Sum256(message), envelope: e}
	if !e.Backup.IsZero() {
		r.source.digest = e.Backup // what is restored from it comes after that ring
	}
	for _, s := range e.Signatures {
		if w := r.FindWriter(s.Writer); w != nil && !w.RevokeOnly && s.Writer.verify(message, s.Signature) {
			r.source.signers = append(r.source.signers, s.Writer)
		}
	}
	if len(r.source.signers) == 0 {
		return nil, &UntrustedError{"no signature of one of its writers fits it: it was changed, or " + signerNames(r, e) +
			" may not sign it", forged}
	}
	for _, s := range e.Revocations {
		k, w := r.find(s.KeyID), r.FindWriter(s.Writer)
		if k != nil && !k.struck && w != nil && s.Writer.verify(revocationMessage(r.Issuer, s.KeyID), s.Signature.Signature) {
			k.struck = true
			r.revocations = append(r.revocations, s)
		}
	}
	return r, nil
}

// strike takes away keys that a [Revocation] has taken away before. A writer of the
// store can remove it from there.
func (r *Ring) strike(kids []string) {
	for _, kid := range kids {
		if k := r.find(kid); k != nil {
			k.struck = true
		}
	}
}

// struck returns a key that a [Revocation] takes away and the ring does not show as
// revoked yet, or nil. The active one is the last, so that none of them becomes active.
func (r *Ring) struck(now time.Time) (struck *Key) {
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.struck && k.RevokedAt.IsZero() && (struck == nil || k.Phase(r.At(now)) != Active) {
			struck = k
		}
	}
	return struck
}

// signerNames names who has signed e.
func signerNames(r *Ring, e *envelope) (names string) {
	for i, s := range e.Signatures {
		if i > 0 {
			names += ", "
		}
		names += r.nameWriter(s.Writer)
	}
	if names == "" {
		return "its signer"
	}
	return names
}

// unmarshal decodes data strictly: an unknown field would be lost at the next
// write.
func unmarshal(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// Seal prepares r for writing: it seals the private keys that were added since it
// was read, signs a ring that has writers, and checks that the result can be read
// again, since no server could use another one. If r was not changed since it was
// read, Seal returns r itself. s may be nil for a plain ring that is not signed.
func (r *Ring) Seal(ctx context.Context, s Sealer) (*Ring, error) {
	if r.source != nil {
		return r, nil
	}
	sealed, err := r.sealKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	if sealed, err = sealed.vouch(ctx, s); err != nil {
		return nil, err
	}
	data, err := sealed.document(ctx, s, Digest{})
	if err != nil {
		return nil, err
	}
	back, err := decode(data)
	if err != nil { // whose hint is about a ring in a store
		return nil, fmt.Errorf("the new ring was not written, since it could not be read again: %v", err)
	}
	sealed.source = back.source
	return sealed, nil
}

// document returns the document for r, or a backup of the ring with a digest. It is
// signed with the keys of s if r has writers.
func (r *Ring) document(ctx context.Context, s Sealer, backup Digest) ([]byte, error) {
	if !r.Signed() {
		data, err := json.MarshalIndent(r, "", "  ")
		return append(data, '\n'), err
	}
	keys, err := r.writerKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	e := envelope{Version: r.Version, Revocations: r.pendingRevocations(), Backup: backup}
	if e.Ring, err = json.MarshalIndent(r, "  ", "  "); err != nil {
		return nil, err
	}
	message := e.message()
	for _, key := range keys {
		e.Signatures = append(e.Signatures, Signature{key.ID(), key.Sign(message)})
	}
	return e.encode()
}

// encode returns the document, in which the ring has the bytes that were signed:
// package json would indent them again.
func (e *envelope) encode() ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, "{\n  \"version\": %d", e.Version)
	for _, part := range []struct {
		name  string
		value any
		write bool
	}{
		{"signatures", e.Signatures, true},
		{"revocations", e.Revocations, len(e.Revocations) > 0},
		{"backup", e.Backup, !e.Backup.IsZero()},
	} {
		data, err := json.MarshalIndent(part.value, "  ", "  ")
		if err != nil {
			return nil, err
		}
		if part.write {
			fmt.Fprintf(&out, ",\n  %q: %s", part.name, data)
		}
	}
	fmt.Fprintf(&out, ",\n  \"ring\": %s\n}\n", e.Ring)
	return out.Bytes(), nil
}

// pendingRevocations returns those of keys that the ring does not show as revoked.
func (r *Ring) pendingRevocations() (pending []Revocation) {
	for _, s := range r.revocations {
		if k := r.find(s.KeyID); k != nil && k.RevokedAt.IsZero() {
			pending = append(pending, s)
		}
	}
	return pending
}

// Encode returns the document for a store, private keys included. The ring must
// have passed through [Ring.Seal].
func (r *Ring) Encode() ([]byte, error) {
	if r.source == nil {
		return nil, errors.New("encoding the ring: it was changed, and is not sealed yet")
	}
	return slices.Clone(r.source.document), nil
}

// Backup returns a document from which `keys restore` can restore r, with its private
// keys sealed for recipients, or plain without any. s must open them, and sign for a
// writer of r.
func Backup(ctx context.Context, r *Ring, recipients []string, s Sealer) ([]byte, error) {
	open, err := r.Unseal(ctx, s)
	if err != nil {
		return nil, err
	}
	backup := open.clone()
	if err := backup.reseal(recipients); err != nil {
		return nil, err
	}
	if backup, err = backup.sealKeys(ctx, s); err != nil {
		return nil, err
	}
	return backup.document(ctx, s, r.source.digest)
}

// DecodeBackup parses a document that [Ring.Encode] or [Backup] has returned.
func DecodeBackup(data []byte) (*Ring, error) {
	r, err := decodeAny(data)
	if err != nil {
		return nil, fmt.Errorf("the backup cannot be used: %w", err)
	}
	return r, nil
}

// Restored returns the ring that a backup is of: as it is, if it is signed, or as a new
// generation that is signed with the keys of a. Such a backup must be one that a trusts,
// or its author could have anything signed. A ring that was never signed stays so without
// any keys.
func Restored(ctx context.Context, r *Ring, a Access, now time.Time) (*Ring, error) {
	switch e := r.source.envelope; {
	case e == nil && !a.Sealer.HasIdentity(), e != nil && e.Backup.IsZero():
		return r, nil
	case e != nil:
		if err := a.Verify(ctx, r); err != nil {
			return nil, err
		}
	}
	next, _ := r.begin(now)
	return Enroll(ctx, next, a.Sealer, nil, now)
}
