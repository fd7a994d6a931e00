package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// The versions of the document that this program reads and writes. A ring with
// copies has a version of its own, since a program that does not know of copies
// would rotate without waiting for them. So has a ring whose clock was repaired,
// which a program that does not know of it would take for an old backup. A signed
// ring is in an envelope in any case.
const (
	ringVersion     = 1
	copiesVersion   = 2
	signedVersion   = 3
	repairedVersion = 4
)

// Bounds of what is read, in bytes and keys: more than any sensible ring has, and
// little enough that a hostile one costs milliseconds.
const (
	maxDocument = 8 << 20
	maxKeys     = 500
)

// maxHistory is more changes than most rings see in a year.
const maxHistory = 64

// A Ring holds the keys of one issuer, past and future, and the policy that they
// are planned under. Rings are immutable: functions that change one return
// another.
type Ring struct {
	Version int    `json:"version"`
	Issuer  string `json:"issuer"`

	// Generation counts the changes, from 1. It never decreases.
	Generation int64 `json:"generation"`

	// Updated is the time of the last write: the newest event that is known to
	// be in the past. No correct clock shows an earlier time, unless the clock of
	// the writer was wrong: [RepairClock] moves Updated back, and leaves a mark in
	// ClockRepairs, of which the last few are kept.
	Updated      time.Time     `json:"updated"`
	ClockRepairs []ClockRepair `json:"clockRepairs,omitempty"`

	// Past has the digests of earlier generations that were signed, the latest
	// first, at most [maxHistory]. It identifies a ring that developed differently
	// from an old backup. A ring that is not signed has the times of earlier writes
	// instead.
	Past    []Digest    `json:"past,omitempty"`
	History []time.Time `json:"history,omitempty"`

	Policy Policy `json:"policy"`

	// Recipients are those that can open the private keys, in the form that the
	// [Sealer] defines. They are in the ring so that every process that adds a
	// key seals it for the same recipients. Without any, private keys are plain.
	Recipients []string `json:"recipients,omitempty"`

	// Copies must all confirm a key before its activation is planned.
	Copies []Copy `json:"copies,omitempty"`

	// Keys are in the order in which they were added, which never changes.
	Keys []Key `json:"keys"`

	// Removed has the kids of all keys that were removed, so that none ever
	// returns.
	Removed []string `json:"removed,omitempty"`

	// Writers may sign the ring. Without any it is not signed, and anyone who can
	// write the store can change it. RemovedWriters never return.
	Writers        []Writer   `json:"writers,omitempty"`
	RemovedWriters []WriterID `json:"removedWriters,omitempty"`

	// WriterSeed is what the key of a writer is derived from, encrypted by the KMS
	// plugin of the [Sealer].
	WriterSeed []byte `json:"writerSeed,omitempty"`

	source      *source      // nil if r was changed since it was read or encoded
	revocations []Revocation // that came with it and are valid
}

// A Key is a key and the times of its life. A zero time is not decided yet.
type Key struct {
	KeyID     string                  `json:"kid"`
	Algorithm jose.SignatureAlgorithm `json:"algorithm"`

	// Public is the public half in PKIX DER.
	Public []byte `json:"public"`

	// Private is the private half in PKCS #8 DER. In a ring with Recipients,
	// Sealed has it instead, encrypted by the [Sealer]. Both are empty for keys
	// that do not sign any more, or never did.
	Private Secret `json:"private,omitempty"`
	Sealed  []byte `json:"sealed,omitempty"`

	// Created is when the key was added to the ring, and PublishAt the time
	// from which it is published. ConfirmedAt is when a server knew that all of
	// its publishers had published the key. CopyConfirmedAt is when an operator
	// confirmed that a copy has the key, by the name of the copy.
	Created         time.Time            `json:"created"`
	PublishAt       time.Time            `json:"publishAt"`
	ConfirmedAt     time.Time            `json:"confirmedAt,omitzero"`
	CopyConfirmedAt map[string]time.Time `json:"copyConfirmedAt,omitempty"`

	// PublishAhead is the longest PublishAhead of the policy while the key was
	// in the ring, or the rest of a longer one when the key was added: caches
	// may still follow it.
	PublishAhead Duration `json:"publishAhead,omitzero"`

	// SignFrom and SignUntil bound the time in which the key signs.
	SignFrom  time.Time `json:"signFrom,omitzero"`
	SignUntil time.Time `json:"signUntil,omitzero"`

	// MaySignUntil is set if an activation happened or was moved without
	// notice: a replica that has not read of it may sign according to the older
	// ring until then.
	MaySignUntil time.Time `json:"maySignUntil,omitzero"`

	// Retention is how long the key stays published after it has signed last:
	// the longest token lifetime it may have signed under, plus the clock skew.
	Retention Duration `json:"retention,omitzero"`

	RevokedAt time.Time `json:"revokedAt,omitzero"`

	// Forced marks a key that became active before it had been published for
	// PublishAhead: the first key of a ring, and that of a forced rotation.
	Forced bool `json:"forced,omitempty"`

	// VerifyOnly marks an imported public key. It stays until it is revoked.
	VerifyOnly bool `json:"verifyOnly,omitempty"`

	// ExcludeFromDiscovery keeps a VerifyOnly key out of the key set: only
	// kube-apiserver accepts tokens signed with it.
	ExcludeFromDiscovery bool `json:"excludeFromDiscovery,omitempty"`

	public    jwks.PublicKey
	signing   *jwks.SigningKey // nil without Private, or while Sealed is closed
	opened    bool             // this process has opened or made Sealed as it is now
	unsealErr error            // why Sealed could not be opened
	struck    bool             // a [Revocation] takes it away before the ring does
}

// PublicKey returns the public half.
func (k *Key) PublicKey() jwks.PublicKey { return k.public }

// SigningKey returns both halves, or nil if the private one is missing or
// sealed: see [Ring.Unseal].
func (k *Key) SigningKey() *jwks.SigningKey { return k.signing }

// A Secret is private key material: bytes that the ring document contains, and no
// log, error or other output.
type Secret []byte

// Format implements [fmt.Formatter] and prints nothing of the bytes.
func (x Secret) Format(s fmt.State, _ rune) { io.WriteString(s, "[secret]") }

// LogValue implements [slog.LogValuer] and logs nothing of the bytes.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// LogValue implements [slog.LogValuer]: a log has a public summary of the ring.
func (r *Ring) LogValue() slog.Value {
	return slog.GroupValue(slog.String("issuer", r.Issuer), slog.Int64("generation", r.Generation),
		slog.Int("keys", len(r.Keys)), slog.String("private", r.sealing()))
}

// Decode parses a document that [Ring.Encode] returned, and checks it: every key
// matches its kid, and exactly one key is active at every instant from Updated
// on. It guesses nothing that it cannot parse.
func Decode(data []byte) (*Ring, error) {
	r, err := decode(data)
	if err != nil {
		return nil, &RefusedError{fmt.Errorf("the ring cannot be used and was left unchanged: %w", err)}
	}
	return r, nil
}

// decode decodes the document of a store.
func decode(data []byte) (*Ring, error) {
	r, err := decodeAny(data)
	if err == nil && r.source.envelope != nil && !r.source.envelope.Backup.IsZero() {
		return nil, &UntrustedError{"this is a backup that was sealed for others, not the ring",
			"`oidc-provider keys restore` writes the ring of a backup into an empty store"}
	}
	return r, err
}

// decodeAny decodes the document of a store, or a backup.
func decodeAny(data []byte) (*Ring, error) {
	if len(data) > maxDocument {
		return nil, hint.Errorf(restore, "it has %d bytes, more than %d", len(data), maxDocument)
	}
	var head struct {
		Version int             `json:"version"`
		Ring    json.RawMessage `json:"ring"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, hint.Errorf(restore, "its %d bytes are not a complete JSON document: %w", len(data), err)
	}
	switch {
	case head.Version < 1:
		return nil, hint.Errorf("is {store} correct?", "this JSON document is not a ring")
	case head.Version > repairedVersion:
		return nil, hint.Errorf("upgrade oidc-provider",
			"it has version %d, and this program reads versions up to %d", head.Version, repairedVersion)
	case head.Version == signedVersion && head.Ring == nil:
		return nil, errStripped
	case head.Version == signedVersion:
		return openEnvelope(data)
	}
	r, err := decodeRing(data)
	if err != nil {
		return nil, err
	}
	r.source = &source{document: data}
	return r, nil
}

// decodeRing decodes a ring without its envelope, and checks it.
func decodeRing(data []byte) (*Ring, error) {
	r := new(Ring)
	if err := unmarshal(data, r); err != nil {
		return nil, hint.Wrap(err, restore)
	}
	if err := r.check(); err != nil {
		return nil, hint.Wrap(err, restore)
	}
	return r, nil
}

const restore = "restore it from a backup"

func (r *Ring) check() error {
	if len(r.Keys) > maxKeys {
		return fmt.Errorf("it has %d keys, more than %d", len(r.Keys), maxKeys)
	}
	if r.Issuer == "" || r.Generation < 1 || r.Updated.IsZero() {
		return fmt.Errorf("issuer, generation or time of the last write is missing")
	}
	for _, text := range append([]string{r.Issuer}, r.Recipients...) {
		if !printable(text) {
			return fmt.Errorf("%.200q has characters that cannot be printed", text) // commands show it on a terminal
		}
	}
	if len(r.History) > maxHistory || int64(len(r.History)) >= r.Generation {
		return fmt.Errorf("the history has %d entries in generation %d", len(r.History), r.Generation)
	}
	if r.Policy != r.Policy.WithDefaults() {
		return fmt.Errorf("the policy is not complete")
	}
	if err := r.Policy.Validate(); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	seen := make(map[string]bool)
	for _, kid := range r.Removed {
		seen[kid] = true
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if seen[k.KeyID] {
			return fmt.Errorf("kid %q is in it twice", k.KeyID)
		}
		seen[k.KeyID] = true
		if err := k.check(); err != nil {
			return fmt.Errorf("key %q: %w", k.KeyID, err)
		}
		if len(k.Private) > 0 && len(r.Recipients) > 0 || len(k.Sealed) > 0 && len(r.Recipients) == 0 {
			return fmt.Errorf("key %q: the private half must be %s in this ring", k.KeyID, r.sealing())
		}
	}
	if err := errors.Join(r.checkCopies(), r.checkRepairs()); err != nil {
		return err
	}
	if err := r.checkWriters(); err != nil {
		return err
	}
	return r.checkChain()
}

func printable(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) })
}

// version returns the version of the document for r.
func (r *Ring) version() int {
	switch {
	case r.Signed():
		return signedVersion
	case len(r.ClockRepairs) > 0:
		return repairedVersion
	case len(r.Copies) > 0:
		return copiesVersion
	}
	return ringVersion
}

func (r *Ring) sealing() string {
	if len(r.Recipients) == 0 {
		return "plain"
	}
	return "sealed"
}

// check parses both halves of k and compares them with the other fields.
func (k *Key) check() (err error) {
	if k.public, err = jwks.ParsePKIXUnchecked(k.Public); err != nil {
		return err
	}
	if k.public.KeyID() != k.KeyID || k.public.Algorithm() != k.Algorithm {
		return fmt.Errorf("the public key is that of another key: %s %s", k.public.Algorithm(), k.public.KeyID())
	}
	if k.ExcludeFromDiscovery && !k.VerifyOnly || k.VerifyOnly && k.hasPrivate() {
		return fmt.Errorf("a key that only verifies or is excluded from discovery must not be able to sign")
	}
	if len(k.Private) > 0 {
		if k.signing, err = jwks.ParsePKCS8Unchecked(k.Private); err != nil {
			return err
		}
		if k.signing.KeyID() != k.KeyID {
			return fmt.Errorf("the private key belongs to another public key")
		}
	}
	if k.Retention <= 0 || k.Retention > 2*maxDuration || k.PublishAhead <= 0 || k.PublishAhead > maxDuration {
		return fmt.Errorf("retention %v or publishAhead %v is missing or out of bounds", k.Retention, k.PublishAhead)
	}
	return nil
}

// checkChain makes sure that exactly one key is active now and after every
// planned activation.
func (r *Ring) checkChain() error {
	for i := range r.Keys {
		if k := &r.Keys[i]; k.RevokedAt.IsZero() && k.SignFrom.After(r.Updated) && r.count(Active, k.SignFrom) != 1 {
			return fmt.Errorf("%d keys are active at %s", r.count(Active, k.SignFrom), k.SignFrom.Format(time.RFC3339))
		}
	}
	at := r.Updated
	for range r.Keys {
		if n := r.count(Active, at); n > 1 {
			return fmt.Errorf("%d keys are active at %s", n, at.Format(time.RFC3339))
		}
		active := r.Active(at)
		if active == nil || !active.hasPrivate() {
			return fmt.Errorf("no key is active at %s", at.Format(time.RFC3339))
		}
		if active.SignUntil.IsZero() {
			return nil
		}
		at = active.SignUntil
	}
	return fmt.Errorf("no key is active after %s", at.Format(time.RFC3339))
}

func (r *Ring) count(phase Phase, at time.Time) (n int) {
	for i := range r.Keys {
		if r.Keys[i].Phase(at) == phase {
			n++
		}
	}
	return n
}

// clone returns a copy of r that the caller may change.
func (r *Ring) clone() *Ring {
	c := *r
	c.Keys = slices.Clone(r.Keys)
	c.Removed = slices.Clone(r.Removed)
	c.Recipients = slices.Clone(r.Recipients)
	c.Copies = slices.Clone(r.Copies)
	c.Writers = slices.Clone(r.Writers)
	c.RemovedWriters = slices.Clone(r.RemovedWriters)
	return &c
}

// Knows reports whether the key with this kid is or was in the ring.
func (r *Ring) Knows(kid string) bool { return r.find(kid) != nil || slices.Contains(r.Removed, kid) }

// find returns the key with this kid, or nil.
func (r *Ring) find(kid string) *Key {
	for i := range r.Keys {
		if r.Keys[i].KeyID == kid {
			return &r.Keys[i]
		}
	}
	return nil
}

// begin starts a change: it returns a copy of r, and the time of the change. The
// first change since r was read makes the next generation.
func (r *Ring) begin(now time.Time) (*Ring, time.Time) {
	next := r.clone()
	next.Updated = r.At(now)
	if r.source == nil && r.Generation > 0 {
		return next, next.Updated
	}
	next.source = nil
	next.Generation++
	switch {
	case r.Generation == 0:
	case r.Signed():
		next.Past = append([]Digest{r.source.digest}, r.Past[:min(len(r.Past), maxHistory-1)]...)
	default:
		next.History = append([]time.Time{r.Updated}, r.History[:min(len(r.History), maxHistory-1)]...)
	}
	return next, next.Updated
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
