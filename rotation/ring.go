package rotation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/jwks"
)

// The versions of the document that this program reads and writes. One with
// copies is of a version of its own, since a program that does not know them
// would hand over without waiting.
const (
	ringVersion   = 1
	copiesVersion = 2
)

// maxHistory is more changes than a ring sees in a year, mostly.
const maxHistory = 64

// A Ring is the keys of one issuer, past and future, with the policy they are
// planned under. Rings are immutable: what changes one returns another.
type Ring struct {
	Version int    `json:"version"`
	Issuer  string `json:"issuer"`

	// Generation counts the changes, from 1. It never goes back.
	Generation int64 `json:"generation"`

	// Updated is when the ring was last written: the newest event that is
	// known to be past. No clock that is right shows an earlier time.
	Updated time.Time `json:"updated"`

	// History is when the generations before were written, the last one
	// first, as far as [maxHistory] goes: a ring that went another way from
	// an old backup can be told by it.
	History []time.Time `json:"history,omitempty"`

	Policy Policy `json:"policy"`

	// Recipients are whom the private keys are sealed for, in the words of
	// the [Sealer]. They stand here so that whoever adds a key seals it for
	// the same ones. With none, private keys are plain.
	Recipients []string `json:"recipients,omitempty"`

	// Copies must all acknowledge a key before its hand-over is planned.
	Copies []Copy `json:"copies,omitempty"`

	// Keys in the order of their coming, which never changes.
	Keys []Key `json:"keys"`

	// Removed are the kids of all keys that once were in the ring, so that
	// none ever comes back.
	Removed []string `json:"removed,omitempty"`
}

// A Key is a key and the times of its life. A zero time is one that has not
// been decided yet.
type Key struct {
	KeyID     string                  `json:"kid"`
	Algorithm jose.SignatureAlgorithm `json:"algorithm"`

	// Public is the public half in PKIX DER.
	Public []byte `json:"public"`

	// Private is the private half in PKCS #8 DER, and Sealed the same as the
	// [Sealer] has made it in a ring with Recipients. Both are empty for keys
	// that no longer sign, or never did.
	Private Secret `json:"private,omitempty"`
	Sealed  []byte `json:"sealed,omitempty"`

	// Created is when the key came into the ring, PublishAt from when on it
	// is published, and ConfirmedAt when every place that a server publishes
	// the key set in had confirmed that it shows the key. CopyConfirmedAt is when
	// somebody said so of a copy, by its name.
	Created         time.Time            `json:"created"`
	PublishAt       time.Time            `json:"publishAt"`
	ConfirmedAt     time.Time            `json:"confirmedAt,omitzero"`
	CopyConfirmedAt map[string]time.Time `json:"copyConfirmedAt,omitempty"`

	// PublishAhead is the longest that the policy has said while the key was
	// in the ring, or what was left of a longer one when it came: caches may
	// have been told to keep to it.
	PublishAhead Duration `json:"publishAhead,omitzero"`

	// SignFrom and SignUntil bound the time in which the key signs.
	SignFrom  time.Time `json:"signFrom,omitzero"`
	SignUntil time.Time `json:"signUntil,omitzero"`

	// MaySignUntil is set where a hand-over came about, or was moved, without
	// notice: a replica that has not heard of it may sign by the older ring
	// until then.
	MaySignUntil time.Time `json:"maySignUntil,omitzero"`

	// Retention is how long the key stays published after it signed last:
	// the longest token lifetime it may have signed under, and the skew.
	Retention Duration `json:"retention,omitzero"`

	RevokedAt time.Time `json:"revokedAt,omitzero"`

	// Forced marks a key that began to sign before it had been published for
	// PublishAhead: the first of a ring, and those of emergencies.
	Forced bool `json:"forced,omitempty"`

	// VerifyOnly marks an imported public key. It stays until it is revoked.
	VerifyOnly bool `json:"verifyOnly,omitempty"`

	// ExcludeFromDiscovery keeps a VerifyOnly key out of the key set:
	// kube-apiserver alone accepts tokens by it.
	ExcludeFromDiscovery bool `json:"excludeFromDiscovery,omitempty"`

	public    jwks.PublicKey
	signing   *jwks.SigningKey // nil without Private, or while Sealed is closed
	opened    bool             // Sealed, as it stands there, was opened or made here
	unsealErr error            // why not, if that was tried
}

// PublicKey is the public half.
func (k *Key) PublicKey() jwks.PublicKey { return k.public }

// SigningKey is both halves, or nil if the private one is not there or closed:
// see [Ring.Unseal].
func (k *Key) SigningKey() *jwks.SigningKey { return k.signing }

// A Secret is bytes that stand in the ring document and nowhere else.
type Secret []byte

// Format implements [fmt.Formatter] and shows nothing of the bytes.
func (x Secret) Format(s fmt.State, _ rune) { io.WriteString(s, "[secret]") }

// LogValue implements [slog.LogValuer] and shows nothing of the bytes.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Encode renders the document that goes into a store, private keys included,
// after [Ring.Seal].
func (r *Ring) Encode() ([]byte, error) {
	for i := range r.Keys {
		if k := &r.Keys[i]; k.bare() {
			return nil, fmt.Errorf("encoding the ring: key %s is not sealed", k.KeyID)
		}
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the ring: %w", err)
	}
	return append(data, '\n'), nil
}

// LogValue implements [slog.LogValuer]: a ring in a log is its public outline.
func (r *Ring) LogValue() slog.Value {
	return slog.GroupValue(slog.String("issuer", r.Issuer), slog.Int64("generation", r.Generation), slog.Int("keys", len(r.Keys)),
		slog.String("private", r.sealing()))
}

// Decode reads a document that [Ring.Encode] made, and checks that it makes
// sense: the keys are what their kids say, and at every instant from Updated
// on exactly one of them signs. Nothing that it cannot read is guessed.
func Decode(data []byte) (*Ring, error) {
	r, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("the ring cannot be used and was left as it is: %w", err)
	}
	return r, nil
}

func decode(data []byte) (*Ring, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%d bytes that are no whole JSON document: %w (hint: restore it from a backup)", len(data), err)
	}
	switch {
	case head.Version < 1:
		return nil, fmt.Errorf("this JSON document is not a ring (hint: is --store the right place?)")
	case head.Version > copiesVersion:
		return nil, fmt.Errorf("it is of version %d, and this program reads up to version %d (hint: upgrade oidc-provider)", head.Version, copiesVersion)
	}
	r := new(Ring)
	dec := json.NewDecoder(bytes.NewReader(data))
	// A field that is not known would be lost at the next write.
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil {
		return nil, fmt.Errorf("%w (hint: restore it from a backup)", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w (hint: restore it from a backup)", err)
	}
	return r, nil
}

func (r *Ring) check() error {
	if r.Issuer == "" || r.Generation < 1 || r.Updated.IsZero() {
		return fmt.Errorf("issuer, generation or time of the last write is missing")
	}
	if len(r.History) > maxHistory || int64(len(r.History)) >= r.Generation {
		return fmt.Errorf("the history has %d entries, and this is generation %d", len(r.History), r.Generation)
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
			return fmt.Errorf("kid %q stands twice", k.KeyID)
		}
		seen[k.KeyID] = true
		if err := k.check(); err != nil {
			return fmt.Errorf("key %q: %w", k.KeyID, err)
		}
		if len(k.Private) > 0 && len(r.Recipients) > 0 || len(k.Sealed) > 0 && len(r.Recipients) == 0 {
			return fmt.Errorf("key %q: the private half of this ring's keys is to be %s, and this one is not", k.KeyID, r.sealing())
		}
	}
	if err := r.checkCopies(); err != nil {
		return err
	}
	return r.checkChain()
}

// version is the one of the document that r becomes.
func (r *Ring) version() int {
	if len(r.Copies) > 0 {
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

// check parses both halves of k and compares them with what stands beside
// them.
func (k *Key) check() (err error) {
	if k.public, err = jwks.ParsePKIX(k.Public); err != nil {
		return err
	}
	if k.public.KeyID() != k.KeyID || k.public.Algorithm() != k.Algorithm {
		return fmt.Errorf("the public key is another one: %s %s", k.public.Algorithm(), k.public.KeyID())
	}
	if k.ExcludeFromDiscovery && !k.VerifyOnly || k.VerifyOnly && k.hasPrivate() {
		return fmt.Errorf("a key that only verifies, or is excluded from discovery, must not be able to sign")
	}
	if len(k.Private) > 0 {
		if k.signing, err = jwks.ParsePKCS8(k.Private); err != nil {
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

// checkChain makes sure that there is a signing key now and after every
// hand-over that is planned.
func (r *Ring) checkChain() error {
	for i := range r.Keys {
		if k := &r.Keys[i]; k.RevokedAt.IsZero() && k.SignFrom.After(r.Updated) && r.count(Active, k.SignFrom) != 1 {
			return fmt.Errorf("%d keys sign at %s", r.count(Active, k.SignFrom), k.SignFrom.Format(time.RFC3339))
		}
	}
	at := r.Updated
	for range r.Keys {
		if n := r.count(Active, at); n > 1 {
			return fmt.Errorf("%d keys sign at %s", n, at.Format(time.RFC3339))
		}
		active := r.Active(at)
		if active == nil || !active.hasPrivate() {
			return fmt.Errorf("no key signs at %s", at.Format(time.RFC3339))
		}
		if active.SignUntil.IsZero() {
			return nil
		}
		at = active.SignUntil
	}
	return fmt.Errorf("no key signs after %s", at.Format(time.RFC3339))
}

func (r *Ring) count(phase Phase, at time.Time) (n int) {
	for i := range r.Keys {
		if r.Keys[i].Phase(at) == phase {
			n++
		}
	}
	return n
}

// clone copies r, for the one that is about to change the copy.
func (r *Ring) clone() *Ring {
	c := *r
	c.Keys = slices.Clone(r.Keys)
	c.Removed = slices.Clone(r.Removed)
	c.Recipients = slices.Clone(r.Recipients)
	c.Copies = slices.Clone(r.Copies)
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

// begin is the first step of every change: a copy of r, one generation on,
// and the time at which the change happens.
func (r *Ring) begin(now time.Time) (*Ring, time.Time) {
	next := r.clone()
	if r.Generation > 0 {
		next.History = append([]time.Time{r.Updated}, r.History[:min(len(r.History), maxHistory-1)]...)
	}
	next.Generation++
	next.Updated = r.At(now)
	return next, next.Updated
}

// ensureStandby generates a key that will sign one day, if there is none. It
// may move r.Keys: pointers into it are void.
func (r *Ring) ensureStandby(now time.Time, generate Generate) error {
	if r.Standby(now) != nil {
		return nil
	}
	key, err := generate(r.Policy)
	if err != nil {
		return err
	}
	return r.add(key, now)
}

func (r *Ring) add(key *jwks.SigningKey, now time.Time) error {
	return r.append(Key{signing: key, public: key.PublicKey}, now)
}

// append is the one way for a key into a ring.
func (r *Ring) append(k Key, now time.Time) error {
	kid := k.public.KeyID()
	if r.find(kid) != nil {
		return fmt.Errorf("key %s is in the ring already", kid)
	}
	if slices.Contains(r.Removed, kid) {
		return fmt.Errorf("key %s was in the ring before and was removed: a key never comes back", kid)
	}
	k.KeyID, k.Algorithm, k.Public = kid, k.public.Algorithm(), k.public.PKIX()
	k.Created, k.PublishAt = now, now
	k.Retention = r.Policy.retention()
	k.PublishAhead = r.lead(now)
	r.Keys = append(r.Keys, k)
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
