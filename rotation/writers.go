package rotation

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"oidc-provider/internal/hint"
)

// This file has the writers of a ring: those whose signature makes a document the
// ring of an issuer.

// A WriterID identifies a writer: the public half of an Ed25519 key. Its text is
// "ed25519:" and 43 characters of base64url.
type WriterID [ed25519.PublicKeySize]byte

const writerPrefix = "ed25519:"

// ParseWriterID parses the result of [WriterID.String].
func ParseWriterID(text string) (id WriterID, err error) {
	encoded, ok := strings.CutPrefix(text, writerPrefix)
	key, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(key) != len(id) {
		return id, hint.Errorf("`oidc-provider keys writers id` prints the ID of an identity",
			"%.100q is not the key of a writer: want %s and 43 characters", text, writerPrefix)
	}
	return WriterID(key), nil
}

func (id WriterID) String() string { return writerPrefix + base64.RawURLEncoding.EncodeToString(id[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (id WriterID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *WriterID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseWriterID(string(text))
	return err
}

// verify reports whether signature is that of id over message.
func (id WriterID) verify(message, signature []byte) bool {
	return ed25519.Verify(id[:], message, signature)
}

// ID returns the public half of k.
func (k WriterKey) ID() WriterID { return WriterID(k.Public()) }

// A Writer may sign rings, or only statements that take keys away.
type Writer struct {
	ID WriterID `json:"id"`

	// Name is the recipient whose secret the key was derived from, such as
	// "age1…" or "kms", or the name that an operator chose.
	Name string `json:"name"`

	// RevokeOnly writers can revoke keys and nothing else.
	RevokeOnly bool `json:"revokeOnly,omitempty"`

	// Since is when the writer was added.
	Since time.Time `json:"since"`

	// Endorsements are those of other writers, so that a process that trusts one of
	// them trusts this one. The first writer of a ring may have none.
	Endorsements []Signature `json:"endorsements,omitempty"`
}

// A Signature is that of a writer.
type Signature struct {
	Writer    WriterID `json:"writer"`
	Signature []byte   `json:"signature"`
}

// kms is the recipient, and the name of the writer, that a KMS plugin is.
const kms = "kms"

// Bounds of a ring's writers: every signature costs time to verify.
const (
	maxWriters        = 16
	maxRemovedWriters = 64
)

// endorsement returns what an endorser signs.
func (w *Writer) endorsement(issuer string) []byte {
	role := "full"
	if w.RevokeOnly {
		role = "revoke"
	}
	return fmt.Appendf(nil, "oidc-provider writer\n%s\n%s\n%s", issuer, role, w.ID)
}

// endorse lets the holder of key vouch for w, unless it does already.
func (w *Writer) endorse(issuer string, key WriterKey) {
	if w.ID == key.ID() || slices.ContainsFunc(w.Endorsements, func(s Signature) bool { return s.Writer == key.ID() }) {
		return
	}
	w.Endorsements = append(slices.Clone(w.Endorsements), Signature{key.ID(), key.Sign(w.endorsement(issuer))})
}

// Signed reports whether the ring has writers, and so must be signed by one.
func (r *Ring) Signed() bool { return len(r.Writers) > 0 }

// FindWriter returns the writer with this ID, or nil.
func (r *Ring) FindWriter(id WriterID) *Writer {
	for i := range r.Writers {
		if r.Writers[i].ID == id {
			return &r.Writers[i]
		}
	}
	return nil
}

// fullWriters returns the writers that may change everything.
func (r *Ring) fullWriters() (ids []WriterID) {
	for _, w := range r.Writers {
		if !w.RevokeOnly {
			ids = append(ids, w.ID)
		}
	}
	return ids
}

// nameWriter returns an ID with the name that the ring has for it, if any.
func (r *Ring) nameWriter(id WriterID) string {
	if w := r.FindWriter(id); w != nil {
		return fmt.Sprintf("%s (%.80s)", id, w.Name)
	}
	return id.String()
}

func writerNames(r *Ring) (names []string) {
	for _, w := range r.Writers {
		names = append(names, r.nameWriter(w.ID))
	}
	return names
}

// checkWriters does the part of check for writers.
func (r *Ring) checkWriters() error {
	if !r.Signed() {
		if len(r.Past) > 0 || len(r.RemovedWriters) > 0 || len(r.WriterSeed) > 0 {
			return errors.New("it has parts of a signed ring, but no writers")
		}
		return nil
	}
	switch {
	case len(r.History) > 0:
		return errors.New("a signed ring has no history of times")
	case len(r.Past) > maxHistory || int64(len(r.Past)) >= r.Generation:
		return fmt.Errorf("%d digests of earlier rings in generation %d", len(r.Past), r.Generation)
	case len(r.Writers) > maxWriters || len(r.RemovedWriters) > maxRemovedWriters:
		return fmt.Errorf("%d writers and %d removed ones: at most %d and %d are possible", len(r.Writers),
			len(r.RemovedWriters), maxWriters, maxRemovedWriters)
	case len(r.fullWriters()) == 0:
		return errors.New("none of its writers may sign it")
	}
	seen := make(map[WriterID]bool)
	for _, id := range r.RemovedWriters {
		seen[id] = true
	}
	for _, w := range r.Writers {
		if seen[w.ID] || len(w.Endorsements) > maxWriters {
			return fmt.Errorf("writer %s is in it twice, or has too many endorsements", w.ID)
		}
		if err := checkWriterName(w.Name); err != nil {
			return err
		}
		seen[w.ID] = true
	}
	return nil
}

// checkWriterName accepts what can be shown on a terminal. An age recipient can
// take 2,000 characters.
func checkWriterName(name string) error {
	if name == "" || len(name) > 4096 || !printable(name) {
		return hint.Errorf("choose a name like ops-laptop", "%.100q cannot name a writer", name)
	}
	return nil
}

// trusts returns which writers of r, and which of anchors, may sign for someone who
// trusts anchors: those, and whom they vouch for. excluded ones cannot vouch for others.
func (r *Ring) trusts(anchors, excluded []WriterID) map[WriterID]bool {
	trusted := make(map[WriterID]bool)
	for _, id := range anchors {
		if !slices.Contains(excluded, id) {
			trusted[id] = true
		}
	}
	for again := true; again; {
		again = false
		for i := range r.Writers {
			w := &r.Writers[i]
			if trusted[w.ID] || slices.Contains(excluded, w.ID) || !w.endorsedBy(r, trusted) {
				continue
			}
			trusted[w.ID], again = true, true
		}
	}
	return trusted
}

func (w *Writer) endorsedBy(r *Ring, trusted map[WriterID]bool) bool {
	return slices.ContainsFunc(w.Endorsements, func(s Signature) bool {
		by := r.FindWriter(s.Writer)
		return trusted[s.Writer] && (by == nil || !by.RevokeOnly) && s.Writer.verify(w.endorsement(r.Issuer), s.Signature)
	})
}

// Enroll makes the keys of s writers of r, all of them, or those that were derived
// from the recipients in only. A ring that is not signed becomes a signed one. If there is nothing to do,
// it returns r itself.
func Enroll(ctx context.Context, r *Ring, s Sealer, only []string, now time.Time) (*Ring, error) {
	next, now := r.begin(now)
	if len(next.WriterSeed) == 0 && (slices.Contains(next.Recipients, kms) || slices.Contains(only, kms)) {
		var err error
		if next.WriterSeed, err = s.NewWriterSeed(ctx); err != nil {
			return r, fmt.Errorf("making a key that signs the ring: %w", err)
		}
	}
	keys, err := s.WriterKeys(ctx, next.WriterSeed)
	if err != nil {
		return r, fmt.Errorf("the keys that sign the ring: %w", err)
	}
	var have []WriterKey // of writers, before and after
	for _, key := range keys {
		if w := next.FindWriter(key.ID()); w != nil && !w.RevokeOnly {
			have = append(have, key)
		}
	}
	added := false
	for _, key := range keys {
		if next.FindWriter(key.ID()) != nil || only != nil && !slices.Contains(only, key.Recipient) {
			continue
		}
		if err := next.addWriter(Writer{ID: key.ID(), Name: key.Recipient, Since: now}, have); err != nil {
			return r, err
		}
		have, added = append(have, key), true
	}
	if !r.Signed() { // the first writers vouch for each other, and later ones for none before them
		for i := range next.Writers {
			for _, key := range have {
				next.Writers[i].endorse(next.Issuer, key)
			}
		}
	}
	if !added {
		return r, nil
	}
	if !r.Signed() {
		next.History = nil
	}
	return next, nil
}

// vouch lets the keys of s vouch for writers for whom only removed ones have: who
// trusts the holder of the keys would not trust them any more. If there are none, it
// returns r itself.
func (r *Ring) vouch(ctx context.Context, s Sealer) (*Ring, error) {
	orphaned := func(w Writer) bool {
		return len(w.Endorsements) > 0 &&
			!slices.ContainsFunc(w.Endorsements, func(s Signature) bool { return r.FindWriter(s.Writer) != nil })
	}
	if !slices.ContainsFunc(r.Writers, orphaned) {
		return r, nil
	}
	keys, err := r.writerKeys(ctx, s)
	if err != nil {
		return nil, err
	}
	next := r.clone()
	for i := range next.Writers {
		if w := &next.Writers[i]; orphaned(*w) {
			for _, key := range keys {
				w.endorse(r.Issuer, key)
			}
			w.Endorsements = w.Endorsements[max(0, len(w.Endorsements)-maxWriters):]
		}
	}
	return next, nil
}

// addWriter adds w, endorsed by the holders of keys.
func (r *Ring) addWriter(w Writer, keys []WriterKey) error {
	if slices.Contains(r.RemovedWriters, w.ID) {
		return hint.Errorf("make a new identity with age-keygen", "writer %s was removed: a writer never returns", w.ID)
	}
	if len(r.Writers) >= maxWriters {
		return hint.Errorf("`oidc-provider keys writers remove` removes one",
			"the ring has %d writers already and cannot have more", len(r.Writers))
	}
	if err := checkWriterName(w.Name); err != nil {
		return err
	}
	for _, key := range keys {
		w.endorse(r.Issuer, key)
	}
	r.Writers = append(r.Writers, w)
	r.Version = r.version()
	return nil
}

// AddWriter adds a writer whose private key is elsewhere, endorsed by the keys of s.
// If the ring has it already, AddWriter returns r itself.
func AddWriter(ctx context.Context, r *Ring, s Sealer, w Writer, now time.Time) (*Ring, error) {
	if known := r.FindWriter(w.ID); known != nil {
		if known.RevokeOnly != w.RevokeOnly {
			return r, hint.Errorf("remove it, and make a new identity for the other role",
				"%s is a writer already, in another role", r.nameWriter(w.ID))
		}
		return r, nil
	}
	if !r.Signed() {
		return r, errNotSigned
	}
	keys, err := r.writerKeys(ctx, s)
	if err != nil {
		return r, err
	}
	next, now := r.begin(now)
	w.Since = now
	return next, next.addWriter(w, keys)
}

var errNotSigned = hint.Errorf("run `oidc-provider keys sign` first", "the ring is not signed, and has no writers")

// RemoveWriter removes the writer with this ID or name for good. The ring must
// keep a writer whose key s has.
func RemoveWriter(ctx context.Context, r *Ring, s Sealer, id string, now time.Time) (*Ring, error) {
	i := slices.IndexFunc(r.Writers, func(w Writer) bool { return w.ID.String() == id || w.Name == id })
	switch {
	case !r.Signed():
		return r, errNotSigned
	case i < 0:
		return r, hint.Errorf("`oidc-provider keys writers list` lists them", "the ring has no writer %.100q", id)
	case slices.ContainsFunc(r.Writers[i+1:], func(w Writer) bool { return w.Name == id }):
		return r, hint.Errorf("name it by its key", "the ring has two writers with the name %.100q", id)
	}
	for _, s := range r.pendingRevocations() {
		if s.Writer == r.Writers[i].ID {
			return r, hint.Errorf("`oidc-provider keys revoke "+s.KeyID+"` revokes it for good",
				"%s has revoked key %s, which no server has done in the ring yet: the key would come back",
				r.nameWriter(s.Writer), s.KeyID)
		}
	}
	next, _ := r.begin(now)
	next.removeWriter(r.Writers[i].ID)
	if len(next.RemovedWriters) > maxRemovedWriters {
		return r, hint.Errorf("start a new ring in another store", "%d writers were removed already", maxRemovedWriters)
	}
	if _, err := next.writerKeys(ctx, s); err != nil {
		return r, fmt.Errorf("%s was not removed: %w", r.nameWriter(r.Writers[i].ID), err)
	}
	return next, nil
}

func (r *Ring) removeWriter(id WriterID) {
	r.Writers = slices.DeleteFunc(r.Writers, func(w Writer) bool { return w.ID == id })
	r.RemovedWriters = append(r.RemovedWriters, id)
	if !slices.ContainsFunc(r.Writers, func(w Writer) bool { return w.Name == kms }) {
		r.WriterSeed = nil
	}
}

var errNoIdentity = hint.Errorf("set {ageIdentities} or {kmsSocket}",
	"the ring is signed, and there is nothing to sign it with")

// writerKeys returns the keys of s that may sign r, at least one.
func (r *Ring) writerKeys(ctx context.Context, s Sealer) (keys []WriterKey, err error) {
	if s == nil {
		return nil, errNoIdentity
	}
	all, err := s.WriterKeys(ctx, r.WriterSeed)
	var names []string
	for _, key := range all {
		if w := r.FindWriter(key.ID()); w != nil && !w.RevokeOnly {
			keys = append(keys, key)
		}
		names = append(names, key.ID().String())
	}
	switch {
	case len(keys) > 0:
		return keys, nil
	case err != nil:
		return nil, fmt.Errorf("signing the ring: %w", err)
	case len(names) == 0:
		return nil, errNoIdentity
	}
	return nil, hint.Errorf("run `oidc-provider keys writers add` with another identity, or use one of a writer",
		"%s is not a writer of the ring, or may only revoke keys", strings.Join(names, ", "))
}

// Signers returns the writers whose signature fits r as it was read, nil if it is not
// signed. Whether they may be trusted says [Access.Verify].
func (r *Ring) Signers() []WriterID {
	if r.source == nil {
		return nil
	}
	return r.source.signers
}
