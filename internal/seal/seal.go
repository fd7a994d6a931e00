// Package seal encrypts the private keys of a ring, so that anyone who can read
// its store cannot use them. [Sealer.Seal] creates an age file
// (https://age-encryption.org/v1) that each of its recipients can open alone;
// [Sealer.Unseal] opens it.
//
// A recipient is an age public key or a Kubernetes KMS v2 plugin, in any
// combination: a ring can be sealed for the plugin that a cluster already runs and
// for an age identity that is kept in a safe. A plugin receives the 16 random
// bytes that age encrypts with, never a key of the ring.
//
// The same identities sign rings: see [Sealer.WriterKeys].
package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"filippo.io/age"

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

// maxSealed limits what is sealed and unsealed, in bytes. Half of it is room for
// the annotations of a KMS plugin.
const maxSealed = 64 << 10

// ErrNoIdentity is wrapped by the errors of [Sealer.Unseal] if the data is intact,
// but sealed for other recipients. An error that wraps neither this nor
// [rotation.ErrUnavailable] reports damage, or a plugin that misbehaves.
var ErrNoIdentity = errors.New("no available identity opens it")

// A Sealer seals for any recipient, and unseals with the identities of its
// Config. Many goroutines may use it at once. The zero value has no identity: it
// seals for age recipients.
type Sealer struct {
	identities func() []age.Identity                // a function, so that no formatting verb prints them
	public     []string                             // the recipients of these identities, each with its file
	writers    func() ([]rotation.WriterKey, error) // of these identities
	plugin     *plugin                              // nil without a KMS plugin
}

// New returns the Sealer that cfg describes. It reads the identity files and does
// not call the plugin. The caller must close the Sealer.
func New(cfg Config) (*Sealer, error) {
	s := &Sealer{}
	var all []age.Identity
	for i, path := range cfg.IdentityFiles {
		if IsSecret(path) {
			return nil, hint.Errorf("put the identity into a file of mode 0600, and set {ageIdentities} to its name; "+
				"others may have seen this one: create a new one",
				"age identity file %d is a private key, not the name of a file", i+1)
		}
		ids, public, err := readIdentities(path)
		if err != nil {
			return nil, fmt.Errorf("age identity file %s: %w", path, err)
		}
		all = append(all, ids...)
		for _, recipient := range public {
			s.public = append(s.public, fmt.Sprintf("%s (%s)", abbreviate(recipient, 80), path))
		}
	}
	s.identities = func() []age.Identity { return all }
	s.writers = sync.OnceValues(func() ([]rotation.WriterKey, error) { return writersOf(all) })
	go s.writers() // the first key takes a millisecond, in which the store can be opened
	var err error
	if cfg.KMSSocket != "" {
		if s.plugin, err = newPlugin(cfg.KMSSocket, cfg.KMSTimeout); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close closes the connection to the KMS plugin, after which s can only use age
// identities. Further calls return the same error as the first.
func (s *Sealer) Close() error {
	if s.plugin == nil {
		return nil
	}
	return s.plugin.close()
}

// Describe lists what s can open with: the recipients of its age identities with
// their files, and the socket of its KMS plugin. It contains nothing secret.
func (s *Sealer) Describe() string {
	list := slices.Clone(s.public)
	if s.plugin != nil {
		list = append(list, s.plugin.String())
	}
	if len(list) == 0 {
		return "no identity"
	}
	return strings.Join(list, ", ")
}

// HasIdentity reports whether s has an age identity or a KMS plugin.
func (s *Sealer) HasIdentity() bool { return s.plugin != nil || len(s.public) > 0 }

// String returns [Sealer.Describe].
func (s *Sealer) String() string { return s.Describe() }

// Seal encrypts plain so that each of recipients can open it alone (see
// [CheckRecipients]). Its errors wrap [rotation.ErrUnavailable] if the KMS plugin
// is unreachable.
func (s *Sealer) Seal(ctx context.Context, recipients []string, plain []byte) ([]byte, error) {
	to, kms, err := parseRecipients(recipients)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if kms {
		if s.plugin == nil {
			return nil, hint.Errorf("set {kmsSocket} to the plugin's socket", "sealing for kms: no KMS plugin is configured")
		}
		to = append(to, &kmsRecipient{ctx, s.plugin, labels(to)})
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, to...)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if sealed.Len() > maxSealed {
		return nil, hint.Errorf("seal for fewer recipients",
			"sealing: the result has %d bytes, more than %d", sealed.Len(), maxSealed)
	}
	return sealed.Bytes(), nil
}

// Unseal opens the result of Seal. It asks the KMS plugin only if no age identity
// fits. Errors wrap [ErrNoIdentity] if the data is sealed for other recipients, and
// [rotation.ErrUnavailable] if only the plugin could open it and is unreachable.
func (s *Sealer) Unseal(ctx context.Context, sealed []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(sealed) > maxSealed {
		return nil, hint.Errorf(fromBackup,
			"unsealing: the data is damaged: it has %d bytes, and a sealed key at most %d", len(sealed), maxSealed)
	}
	kms := &kmsIdentity{ctx: ctx, plugin: s.plugin}
	var ids []age.Identity
	if s.identities != nil {
		ids = s.identities()
	}
	// age itself asks its own kinds of identity before any other.
	r, err := age.Decrypt(bytes.NewReader(sealed), append(slices.Clip(ids), kms)...)
	var plain []byte
	if err == nil {
		plain, err = io.ReadAll(r)
	}
	if err == nil {
		return plain, nil
	}
	return nil, s.unsealError(kms, err)
}

const fromBackup = "restore the ring from a backup with `oidc-provider keys restore`"

// unsealError returns the error of Unseal for the error of age.
func (s *Sealer) unsealError(kms *kmsIdentity, err error) error {
	switch none := (*age.NoIdentityMatchError)(nil); {
	case kms.err != nil:
		return fmt.Errorf("unsealing: %w", kms.err)
	case errors.As(err, &none):
		return hint.Errorf("add an identity with {ageIdentities}, or a plugin with {kmsSocket}",
			"unsealing: %w: it is sealed for %s; available: %s", ErrNoIdentity, kinds(none.StanzaTypes), s.Describe())
	case kms.asked:
		return hint.Errorf("set {kmsSocket} to the plugin that sealed it, or "+fromBackup,
			"unsealing: %v returned a wrong key, or the data is damaged", s.plugin)
	}
	// The text of age's error is dropped: it quotes the data, which could be anything.
	return hint.Errorf(fromBackup, "unsealing: this is not an age file, or it is damaged")
}

// kinds counts the recipients of an age file by kind, which is all that the file
// says about them.
func kinds(stanzas []string) string {
	count := map[string]int{}
	for _, stanza := range stanzas {
		switch stanza {
		case "X25519":
			count["age1…"]++
		case "mlkem768x25519":
			count["age1pq1…"]++
		case "scrypt":
			count["a passphrase"]++
		case kmsStanza:
			count["kms"]++
		default:
			count["an unknown kind"]++
		}
	}
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		list = append(list, fmt.Sprintf("%d × %s", count[kind], kind))
	}
	return strings.Join(list, ", ")
}

// abbreviate returns the first n bytes of s: some public keys would fill a screen.
func abbreviate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
