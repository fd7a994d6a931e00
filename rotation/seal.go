package rotation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// A Sealer protects private keys against anyone who can read the store. The ring
// contains the sealed keys instead of the private ones. Everything else in it
// stays readable.
type Sealer interface {
	// Seal encrypts plain for recipients, in the form in which a ring has them.
	Seal(ctx context.Context, recipients []string, plain []byte) ([]byte, error)

	// Unseal decrypts what any Sealer has sealed for a recipient whose secret
	// this one has.
	Unseal(ctx context.Context, sealed []byte) ([]byte, error)

	// WriterKeys returns the keys with which this Sealer signs rings: one per age
	// identity, and one of the KMS plugin, if there is one and seed is what
	// NewWriterSeed returned to the writer that created it. If seed does not open,
	// it returns the others and an error.
	WriterKeys(ctx context.Context, seed []byte) ([]WriterKey, error)

	// NewWriterSeed returns a new seed for the writer key of the KMS plugin, which
	// the ring keeps, or nil without a plugin.
	NewWriterSeed(ctx context.Context) ([]byte, error)

	// HasIdentity reports whether there is an identity or a plugin, so that there
	// are writer keys.
	HasIdentity() bool
}

// hasPrivate reports whether the ring has the private half, sealed or not, or
// will have it when it is written.
func (k *Key) hasPrivate() bool {
	return k.signing != nil || len(k.Private) > 0 || len(k.Sealed) > 0
}

// Unseal opens the private keys that are not open yet. Keys that cannot be
// opened stay sealed, and the error says why. If there is nothing to open it
// returns r itself.
func (r *Ring) Unseal(ctx context.Context, s Sealer) (*Ring, error) {
	if !r.closed() {
		return r, nil
	}
	open := r.clone()
	var errs []error
	var unavailable error // trying another key would wait as long, for the same result
	for i := range open.Keys {
		k := &open.Keys[i]
		if !k.toOpen() {
			continue
		}
		key, err := (*jwks.SigningKey)(nil), unavailable
		if unavailable == nil {
			key, err = k.unseal(ctx, s)
		}
		if errors.Is(err, ErrUnavailable) {
			unavailable = err
		}
		if err != nil {
			err = fmt.Errorf("the private half of key %s is sealed for %s: %w",
				k.KeyID, strings.Join(r.Recipients, ", "), err)
			errs = append(errs, err)
		} else {
			k.signing = key
		}
		k.opened, k.unsealErr = err == nil, err
	}
	switch n := len(errs); n {
	case 0:
		return open, nil
	case 1:
		return open, errs[0]
	default: // probably for the same reason
		return open, fmt.Errorf("%w; %d more cannot be opened", errs[0], n-1)
	}
}

// closed reports whether there are private keys to open.
func (r *Ring) closed() bool {
	return slices.ContainsFunc(r.Keys, func(k Key) bool { return k.toOpen() })
}

func (k *Key) toOpen() bool { return len(k.Sealed) > 0 && !k.opened }

// closed reports whether the key is sealed and cannot sign.
func (k *Key) closed() bool { return len(k.Sealed) > 0 && k.signing == nil }

func (k *Key) whyClosed() error {
	if k.unsealErr != nil {
		return k.unsealErr
	}
	return hint.Errorf("the log has the reason", "the private half of key %s is sealed, and was not opened", k.KeyID)
}

func (k *Key) unseal(ctx context.Context, s Sealer) (*jwks.SigningKey, error) {
	if s == nil {
		return nil, hint.Errorf("set {ageIdentities} or {kmsSocket}", "there is nothing to open it with")
	}
	der, err := s.Unseal(ctx, k.Sealed)
	if err != nil {
		return nil, err
	}
	key, err := jwks.ParsePKCS8Unchecked(der)
	if err == nil && key.KeyID() != k.KeyID {
		err = errors.New("it belongs to another public key")
	}
	if err != nil {
		return nil, hint.Errorf("restore the ring from a backup", "the sealed data is invalid: %w", err)
	}
	return key, nil
}

// inherit takes the private keys that are open in known: a kid names the same
// key forever. A key that was sealed again must still be opened.
func (r *Ring) inherit(known *Ring) {
	for i := range r.Keys {
		k := &r.Keys[i]
		before := known.find(k.KeyID)
		if before == nil {
			continue
		}
		k.struck = k.struck || before.struck // a writer of the store can remove a Revocation
		if k.closed() {
			k.signing = before.signing
			k.opened = before.opened && bytes.Equal(before.Sealed, k.Sealed)
		}
	}
}

// sealKeys seals the private keys that were added since r was read. If there are
// none it returns r itself.
func (r *Ring) sealKeys(ctx context.Context, s Sealer) (*Ring, error) {
	if !slices.ContainsFunc(r.Keys, func(k Key) bool { return k.bare() }) {
		return r, nil
	}
	sealed := r.clone()
	for i := range sealed.Keys {
		k := &sealed.Keys[i]
		if !k.bare() {
			continue
		}
		der, err := k.signing.PKCS8()
		if err != nil {
			return nil, fmt.Errorf("encoding key %s: %w", k.KeyID, err)
		}
		if len(r.Recipients) == 0 {
			k.Private = der
			continue
		}
		if s == nil {
			return nil, fmt.Errorf("this ring is sealed for %s, and there is nothing to seal with",
				strings.Join(r.Recipients, ", "))
		}
		if k.Sealed, err = s.Seal(ctx, r.Recipients, der); err != nil {
			return nil, fmt.Errorf("sealing key %s for %s: %w",
				k.KeyID, strings.Join(r.Recipients, ", "), err)
		}
		k.opened = true
	}
	return sealed, nil
}

// bare reports whether the private half is not yet encoded for the document.
func (k *Key) bare() bool { return k.signing != nil && len(k.Private) == 0 && len(k.Sealed) == 0 }

// Reseal returns a ring whose private keys will all be sealed again, for
// recipients; without recipients they become plain. All keys must be open: see
// [Ring.Unseal]. Writers whose keys were derived from recipients that others replace
// are removed.
func Reseal(r *Ring, recipients []string, now time.Time) (*Ring, error) {
	if err := r.CheckClock(now); err != nil {
		return r, err
	}
	next, _ := r.begin(now)
	for _, w := range r.Writers {
		if len(recipients) > 0 && slices.Contains(r.Recipients, w.Name) && !slices.Contains(recipients, w.Name) {
			next.removeWriter(w.ID)
		}
	}
	if r.Signed() && len(next.fullWriters()) == 0 {
		return r, hint.Errorf("add {ageIdentities} with the identity of a new recipient",
			"nothing was changed, since no writer would be left that can sign the ring")
	}
	return next, next.reseal(recipients)
}

// reseal makes r one that will be sealed for recipients. All keys must be open.
func (r *Ring) reseal(recipients []string) error {
	r.Recipients = recipients
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.closed() {
			return k.whyClosed()
		}
		k.Private, k.Sealed, k.opened = nil, nil, false
	}
	return nil
}

// withoutPrivate returns r without private keys, for a replica that only
// publishes.
func (r *Ring) withoutPrivate() *Ring {
	public := r.clone()
	for i := range public.Keys {
		public.Keys[i].deletePrivate()
	}
	return public
}
