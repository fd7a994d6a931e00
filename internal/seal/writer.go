package seal

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"google.golang.org/protobuf/proto"
	kmsapi "k8s.io/kms/apis/v2"

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

// writerInfo is the info of HKDF-SHA256 (RFC 5869). Changing it changes the key of
// every writer.
const writerInfo = "oidc-provider ring writer v1"

// seedLabel precedes the random bytes that the plugin encrypts. It makes a seed
// differ, also in length, from everything else that a plugin encrypts: the file keys
// of age (16 bytes), and the keys of kube-apiserver (32 bytes). Otherwise an
// attacker who writes the store could present one as the other.
const (
	seedLabel = "oidc-provider ring writer seed\n"
	seedSize  = 32 // random bytes
)

// maxWriters limits the keys that are cached. A ring has one seed, and a new one
// only if it is sealed again.
const maxWriters = 16

// newWriter derives the key of a writer from secret, which must have 128 bits of
// entropy or more.
func newWriter(recipient string, secret []byte) (rotation.WriterKey, error) {
	seed, err := hkdf.Key(sha256.New, secret, nil, writerInfo, ed25519.SeedSize)
	if err != nil {
		return rotation.WriterKey{}, fmt.Errorf("deriving the writer key of %s: %w", abbreviate(recipient, 80), err)
	}
	return rotation.NewWriterKey(recipient, seed), nil
}

// writersOf returns the writer keys of age identities. An identity that is in two
// files has one.
func writersOf(ids []age.Identity) ([]rotation.WriterKey, error) {
	var writers []rotation.WriterKey
	for _, id := range ids {
		var recipient, secret string
		switch id := id.(type) {
		case *age.X25519Identity:
			recipient, secret = id.Recipient().String(), id.String()
		case *age.HybridIdentity:
			recipient, secret = id.Recipient().String(), id.String()
		}
		if slices.ContainsFunc(writers, func(k rotation.WriterKey) bool { return k.Recipient == recipient }) {
			continue
		}
		key, err := newWriter(recipient, []byte(secret))
		if err != nil {
			return nil, err
		}
		writers = append(writers, key)
	}
	return writers, nil
}

// WriterKeys returns the keys with which s signs rings: one per age identity and, if
// seed is not empty and s has a KMS plugin, the one that the plugin has for seed (see
// [Sealer.NewWriterSeed]), named kms. The key of an identity is always the same. The
// plugin is called once per seed; after that it may be unreachable.
//
// If seed does not open, the keys of the age identities are returned with the error,
// which wraps the same errors as those of [Sealer.Unseal].
func (s *Sealer) WriterKeys(ctx context.Context, seed []byte) ([]rotation.WriterKey, error) {
	var keys []rotation.WriterKey
	if s.writers != nil {
		derived, err := s.writers()
		if err != nil {
			return nil, err
		}
		keys = slices.Clone(derived)
	}
	if len(seed) == 0 || s.plugin == nil {
		return keys, nil
	}
	key, err := s.plugin.writerKey(ctx, seed)
	if err != nil {
		return keys, fmt.Errorf("opening the seed of the writer kms: %w", err)
	}
	return append(keys, key), nil
}

// NewWriterSeed returns a new seed for [Sealer.WriterKeys], encrypted by the KMS
// plugin alone. Without a plugin it returns nil. Anyone whom the plugin lets encrypt
// can create a seed, and so has a key named kms. Its errors wrap
// [rotation.ErrUnavailable] if the plugin is unreachable.
func (s *Sealer) NewWriterSeed(ctx context.Context) ([]byte, error) {
	if s.plugin == nil {
		return nil, nil
	}
	plain := make([]byte, len(seedLabel)+seedSize)
	rand.Read(plain[copy(plain, seedLabel):])
	req, err := s.plugin.seal(ctx, plain)
	if err != nil {
		return nil, fmt.Errorf("creating the seed of the writer kms: %w", err)
	}
	seed, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("creating the seed of the writer kms: %w", err)
	}
	if len(seed) > maxSealed {
		return nil, hint.Errorf(seeLog, "creating the seed of the writer kms: the answer of %v has %d bytes, more than %d",
			s.plugin, len(seed), maxSealed)
	}
	return seed, nil
}

// writerKey returns the key for seed, from the cache if the plugin has opened seed
// before.
func (p *plugin) writerKey(ctx context.Context, seed []byte) (rotation.WriterKey, error) {
	p.mu.Lock()
	key, ok := p.writers[string(seed)]
	p.mu.Unlock()
	if ok {
		return key, nil
	}
	req, err := parseSeed(seed)
	if err != nil {
		return rotation.WriterKey{}, hint.Errorf(fromBackup, "the seed is damaged: %w", err)
	}
	plain, err := p.decrypt(ctx, req, len(seedLabel)+seedSize)
	if err != nil {
		return rotation.WriterKey{}, err
	}
	random, ok := strings.CutPrefix(string(plain), seedLabel)
	if !ok {
		return rotation.WriterKey{}, hint.Errorf(fromBackup, "%v opens it, and it is not a seed", p)
	}
	if key, err = newWriter("kms", []byte(random)); err != nil {
		return rotation.WriterKey{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writers == nil || len(p.writers) == maxWriters {
		p.writers = map[string]rotation.WriterKey{}
	}
	p.writers[string(seed)] = key
	return key, nil
}

// parseSeed parses a seed: a DecryptRequest without uid, in protobuf.
func parseSeed(seed []byte) (*kmsapi.DecryptRequest, error) {
	if len(seed) > maxSealed {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(seed), maxSealed)
	}
	req := &kmsapi.DecryptRequest{}
	if err := proto.Unmarshal(seed, req); err != nil || req.Uid != "" {
		return nil, errors.New("it is malformed")
	}
	return req, validate(req)
}
