// Package seal keeps the private keys of a ring from whoever can read its
// store. [Sealer.Seal] makes an age file (https://age-encryption.org/v1) that
// every one of its recipients opens; [Sealer.Unseal] opens it.
//
// A recipient is an age public key or a Kubernetes KMS v2 plugin, in any
// mixture: a ring can be sealed for the plugin that a cluster runs anyway and
// for an age identity that lies in a safe. A plugin is given the 16 random
// bytes under which age encrypts, never a key of the ring.
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
	"time"

	"filippo.io/age"
)

// maxSealed bounds what is made and what is read. Half of it is room for the
// annotations of a KMS plugin.
const maxSealed = 64 << 10

// ErrNoIdentity is in the errors of [Sealer.Unseal] when nothing at hand opens
// what is sound: it was sealed for others. An error that has neither this nor
// [rotation.ErrUnavailable] in it tells of damage or of a misbehaving plugin.
var ErrNoIdentity = errors.New("no identity at hand opens it")

// Config says what a [Sealer] opens with.
type Config struct {
	// IdentityFiles are files as age-keygen writes them: age identities, one a
	// line. They are read once, by New. Nobody but their owner may have access
	// to them; the group may read one that belongs to another user, as
	// Kubernetes lays down Secrets for a pod with an fsGroup.
	IdentityFiles []string

	// KMSSocket is the Unix socket of a KMS v2 plugin: a path, unix:///path, or
	// @name for an abstract socket. Empty means no plugin. It is first dialled
	// when it is needed, so that the plugin may start later.
	KMSSocket string

	// KMSTimeout is how long one call to the plugin may take; 0 means 3 s, as in
	// kube-apiserver.
	KMSTimeout time.Duration
}

// A Sealer seals for any recipient, and unseals with the identities of its
// Config. Many goroutines may use it at once. The zero value has no identity:
// it seals for age recipients.
type Sealer struct {
	identities func() []age.Identity // a function, whose results no formatting verb prints
	public     []string              // the recipients of these identities, each with its file
	plugin     *plugin               // nil if there is none
}

// New returns the Sealer that cfg describes.
func New(cfg Config) (*Sealer, error) {
	s := &Sealer{}
	var all []age.Identity
	for _, path := range cfg.IdentityFiles {
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
	if cfg.KMSSocket != "" {
		var err error
		if s.plugin, err = newPlugin(cfg.KMSSocket, cfg.KMSTimeout); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close ends the connection to the KMS plugin.
func (s *Sealer) Close() error {
	if s.plugin == nil {
		return nil
	}
	return s.plugin.conn.Close()
}

// Describe names what s can open: the recipients of its age identities with
// their files, and the socket of its KMS plugin. There is nothing secret in it.
func (s *Sealer) Describe() string {
	at := slices.Clone(s.public)
	if s.plugin != nil {
		at = append(at, s.plugin.String())
	}
	if len(at) == 0 {
		return "no identity"
	}
	return strings.Join(at, ", ")
}

// String is [Sealer.Describe].
func (s *Sealer) String() string { return s.Describe() }

// Seal encrypts plain so that each of recipients can open it alone (see
// [CheckRecipients]). Its errors have [rotation.ErrUnavailable] in them when
// the KMS plugin cannot be reached.
func (s *Sealer) Seal(ctx context.Context, recipients []string, plain []byte) ([]byte, error) {
	to, kms, err := parseRecipients(recipients)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if kms {
		if s.plugin == nil {
			return nil, errors.New("sealing for kms: no KMS plugin is configured (hint: --kms-socket names its socket)")
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
		return nil, fmt.Errorf("sealing: the result has %d bytes, more than %d (hint: seal for fewer recipients)", sealed.Len(), maxSealed)
	}
	return sealed.Bytes(), nil
}

// Unseal opens what Seal has made. The KMS plugin is asked only if no age
// identity fits. Errors have [ErrNoIdentity] in them when it was sealed for
// others, and [rotation.ErrUnavailable] when only the plugin could open it and
// cannot be reached.
func (s *Sealer) Unseal(ctx context.Context, sealed []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(sealed) > maxSealed {
		return nil, fmt.Errorf("unsealing: %d bytes are more than the %d that were ever sealed (hint: this is something else, or damaged)", len(sealed), maxSealed)
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
	switch none := (*age.NoIdentityMatchError)(nil); {
	case err == nil:
		return plain, nil
	case kms.err != nil:
		return nil, fmt.Errorf("unsealing: %w", kms.err)
	case errors.As(err, &none):
		return nil, fmt.Errorf("unsealing: %w: it is sealed for %s; at hand: %s (hint: --age-identity FILE and --kms-socket PATH give more)",
			ErrNoIdentity, kinds(none.StanzaTypes), s.Describe())
	case kms.asked:
		return nil, fmt.Errorf("unsealing: %v returned a wrong key, or the data is damaged (hint: does the socket belong to the plugin that sealed it? otherwise restore the ring from a backup)", s.plugin)
	}
	// age quotes what it could not read, which may be anything, so its own
	// words stay here.
	return nil, errors.New("unsealing: this is not an age file, or it is damaged (hint: restore the ring from a backup)")
}

// kinds counts the recipients of an age file, all that it tells about them.
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

// abbreviate keeps the beginning of public keys that would fill a screen.
func abbreviate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
