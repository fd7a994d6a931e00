package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"oidc-provider/internal/hint"
)

// Access is what a process needs to read a ring that it trusts, and to change it.
type Access struct {
	// Sealer opens the private keys of a sealed ring, seals new ones, and has the
	// keys that sign the ring. Nil is enough for a plain ring that is not signed,
	// and to publish.
	Sealer Sealer

	// Signers are writers whose signature is trusted, and that of whom they endorse,
	// besides those of Sealer.
	Signers []WriterID

	// AllowUnsigned accepts a ring that is not signed even where Sealer or Signers
	// could tell who signed it. It is for rings that are about to be signed.
	AllowUnsigned bool

	// Seen is what was seen of the ring before, by witnesses or by this replica. A
	// ring that cannot have come after it, such as an old backup, is refused.
	Seen []Seen
}

// A truster decides whether a ring was written by someone who may do so. It belongs
// to one goroutine.
type truster struct {
	sealer        Sealer
	pinned        []WriterID
	allowUnsigned bool

	// learns says that a process to which nothing says whom to trust may trust the
	// first ring that it reads. firstUse is its writer.
	learns   bool
	firstUse *WriterID

	// What the rings that were accepted before say.
	writers []WriterID
	removed []WriterID
}

func newTruster(a Access) truster {
	t := truster{sealer: a.Sealer, pinned: a.Signers, allowUnsigned: a.AllowUnsigned}
	for _, s := range a.Seen {
		t.learn(s)
	}
	return t
}

// learn notes who may write the next ring.
func (t *truster) learn(s Seen) {
	if len(s.Writers) == 0 {
		return
	}
	t.writers = s.Writers
	for _, id := range s.RemovedWriters {
		if !slices.Contains(t.removed, id) {
			t.removed = append(t.removed, id)
		}
	}
}

func (t *truster) hasIdentity() bool { return t.sealer != nil && t.sealer.HasIdentity() }

// check returns an [*UntrustedError] if r has no signature that counts here. Other
// errors say why that is not known.
func (t *truster) check(ctx context.Context, r *Ring) error {
	if !r.Signed() {
		return t.checkUnsigned()
	}
	own, err := t.own(ctx, r)
	signer := r.source.signers[0]
	anchors := slices.Concat(own, t.pinned, t.writers)
	trusted := r.trusts(anchors, t.removed)
	switch {
	case slices.ContainsFunc(r.source.signers, func(id WriterID) bool { return trusted[id] }):
		return nil
	case errors.Is(err, ErrUnavailable):
		return fmt.Errorf("it is not known yet who may sign the ring: %w", err)
	case len(anchors) > 0 || t.hasIdentity():
		reason := fmt.Sprintf("the ring is signed by %s, for whom no trusted writer has vouched", r.nameWriter(signer))
		if t.hasIdentity() && !slices.ContainsFunc(own, func(id WriterID) bool { return r.FindWriter(id) != nil }) {
			reason += "; the identities that are given are not writers of it"
		}
		if err != nil {
			reason = fmt.Sprintf("%s: %v", reason, err)
		}
		return &UntrustedError{reason, pin(signer) + "; if not: " + forged}
	case !t.learns:
		return &UntrustedError{fmt.Sprintf("the ring is signed by %s, and nothing here says whom to trust",
			r.nameWriter(signer)), "set {ageIdentities} or {kmsSocket}; " + pin(signer) +
			"; a server that only publishes learns it at the first start with {rollbackState}"}
	}
	t.firstUse = &signer
	return nil
}

func pin(id WriterID) string {
	return fmt.Sprintf("if `oidc-provider keys writers id` prints this ID where the identities of the servers are, "+
		"set {ringSigners} to %s", id)
}

func (t *truster) checkUnsigned() error {
	switch {
	case len(t.writers) > 0:
		return &UntrustedError{"the ring is not signed, and it was signed before", forged}
	case t.allowUnsigned:
	case len(t.pinned) > 0:
		return &UntrustedError{"the ring is not signed, and the configuration says by whom it must be", forged}
	case t.hasIdentity():
		return &UntrustedError{"the ring is not signed, although this process could tell who signed it",
			"if it never was signed, check its keys with `oidc-provider keys list`, and run `oidc-provider keys sign`; " +
				"{allowUnsignedRing} lets a server use it meanwhile"}
	}
	return nil
}

// own returns the public halves of the keys with which this process can sign r. The
// key of a KMS plugin comes from the ring, and so counts only where nothing else
// says whom to trust.
func (t *truster) own(ctx context.Context, r *Ring) (ids []WriterID, err error) {
	if t.sealer == nil {
		return nil, nil
	}
	seed := r.WriterSeed
	if len(t.pinned) > 0 || len(t.writers) > 0 {
		seed = nil
	}
	keys, err := t.sealer.WriterKeys(ctx, seed)
	for _, key := range keys {
		ids = append(ids, key.ID())
	}
	return ids, err
}

// Verify returns an [*UntrustedError] if r has no signature that counts for a. Other
// errors say why that is not known.
func (a Access) Verify(ctx context.Context, r *Ring) error {
	t := newTruster(a)
	return t.check(ctx, r)
}

// MayOnlyRevoke reports whether s has the key of a writer of r that may revoke keys,
// and none that may sign the ring.
func (r *Ring) MayOnlyRevoke(ctx context.Context, s Sealer) bool {
	if !r.Signed() || s == nil {
		return false
	}
	if _, err := r.writerKeys(ctx, s); err == nil {
		return false
	}
	_, err := r.revocationKey(ctx, s)
	return err == nil
}

// RevokeAlone revokes a key with the identity of a writer that may only revoke. The
// ring in store stays as it is, and a statement is added, which every server obeys at
// once. The next server that can sign the ring revokes the key in it.
func RevokeAlone(ctx context.Context, store Store, a Access, kid string) error {
	return replace(ctx, store, a, func(r *Ring) ([]byte, error) {
		switch k := r.find(kid); {
		case !r.Signed():
			return nil, errNotSigned
		case k == nil:
			return nil, r.errNoKey(kid)
		case !k.Published():
			return nil, nil
		}
		key, err := r.revocationKey(ctx, a.Sealer)
		if err != nil {
			return nil, err
		}
		e := *r.source.envelope
		e.Revocations = append(r.pendingRevocations(), Revocation{kid, Signature{key.ID(), key.Sign(revocationMessage(r.Issuer, kid))}})
		return e.encode()
	})
}

// revocationKey returns a key of s that may at least revoke.
func (r *Ring) revocationKey(ctx context.Context, s Sealer) (WriterKey, error) {
	keys, err := s.WriterKeys(ctx, r.WriterSeed)
	for _, key := range keys {
		if r.FindWriter(key.ID()) != nil {
			return key, nil
		}
	}
	if err == nil {
		err = hint.Errorf("set {ageIdentities} to the identity of a writer", "no identity of a writer of the ring is given")
	}
	return WriterKey{}, err
}
