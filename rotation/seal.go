package rotation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"oidc-provider/jwks"
)

// A Sealer keeps private keys from everybody who can read the store. What it
// seals stands in the ring in place of the keys; everything else there stays
// readable.
type Sealer interface {
	// Seal encrypts plain for recipients, as a ring names them.
	Seal(ctx context.Context, recipients []string, plain []byte) ([]byte, error)

	// Unseal decrypts what any Sealer has sealed for a recipient that this
	// one can speak for.
	Unseal(ctx context.Context, sealed []byte) ([]byte, error)
}

// hasPrivate reports whether the private half stands in the ring, sealed or
// not, or is about to.
func (k *Key) hasPrivate() bool {
	return k.signing != nil || len(k.Private) > 0 || len(k.Sealed) > 0
}

// Unseal opens the private keys that are still closed. Those that do not open
// stay so, and the error says why. If there is nothing to open it returns r
// itself.
func (r *Ring) Unseal(ctx context.Context, s Sealer) (*Ring, error) {
	if !r.closed() {
		return r, nil
	}
	open := r.clone()
	var errs []error
	var away error // why asking for another key would be in vain, after as long a wait
	for i := range open.Keys {
		k := &open.Keys[i]
		if !k.toOpen() {
			continue
		}
		key, err := (*jwks.SigningKey)(nil), away
		if away == nil {
			key, err = k.unseal(ctx, s)
		}
		if errors.Is(err, ErrUnavailable) {
			away = err
		}
		if err != nil {
			err = fmt.Errorf("the private half of key %s is sealed for %s: %w", k.KeyID, strings.Join(r.Recipients, ", "), err)
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
	default: // most likely for the same reason
		return open, fmt.Errorf("%w; %d more do not open either", errs[0], n-1)
	}
}

// closed reports whether there is something to open.
func (r *Ring) closed() bool {
	return slices.ContainsFunc(r.Keys, func(k Key) bool { return k.toOpen() })
}

func (k *Key) toOpen() bool { return len(k.Sealed) > 0 && !k.opened }

// closed keys cannot be signed with.
func (k *Key) closed() bool { return len(k.Sealed) > 0 && k.signing == nil }

func (k *Key) whyClosed() error {
	if k.unsealErr != nil {
		return k.unsealErr
	}
	return fmt.Errorf("the private half of key %s is sealed, and was not opened (hint: the log says why)", k.KeyID)
}

func (k *Key) unseal(ctx context.Context, s Sealer) (*jwks.SigningKey, error) {
	if s == nil {
		return nil, errors.New("there is nothing to open it with (hint: --age-identity or --kms-socket)")
	}
	der, err := s.Unseal(ctx, k.Sealed)
	if err != nil {
		return nil, err
	}
	key, err := jwks.ParsePKCS8(der)
	if err == nil && key.KeyID() != k.KeyID {
		err = errors.New("it belongs to another public key")
	}
	if err != nil {
		return nil, fmt.Errorf("what is sealed cannot be used: %w (hint: restore the ring from a backup)", err)
	}
	return key, nil
}

// inherit takes over the private keys that are at hand in known: a kid names
// the same key for ever. What was sealed anew must open all the same.
func (r *Ring) inherit(known *Ring) {
	for i := range r.Keys {
		k := &r.Keys[i]
		if before := known.find(k.KeyID); before != nil && k.closed() {
			k.signing = before.signing
			k.opened = before.opened && bytes.Equal(before.Sealed, k.Sealed)
		}
	}
}

// Seal makes r ready to be written: it seals the private keys that have come
// in since it was read. If there are none it returns r itself.
func (r *Ring) Seal(ctx context.Context, s Sealer) (*Ring, error) {
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
			return nil, fmt.Errorf("this ring is sealed for %s, and there is nothing to seal with", strings.Join(r.Recipients, ", "))
		}
		if k.Sealed, err = s.Seal(ctx, r.Recipients, der); err != nil {
			return nil, fmt.Errorf("sealing key %s for %s: %w", k.KeyID, strings.Join(r.Recipients, ", "), err)
		}
		k.opened = true
	}
	return sealed, nil
}

// bare keys are at hand and not yet in the document.
func (k *Key) bare() bool { return k.signing != nil && len(k.Private) == 0 && len(k.Sealed) == 0 }

// Reseal has every private key sealed anew, for recipients; none leave them
// plain. All must be open: see [Ring.Unseal].
func Reseal(r *Ring, recipients []string, now time.Time) (*Ring, error) {
	if err := r.CheckClock(now); err != nil {
		return r, err
	}
	next, _ := r.begin(now)
	next.Recipients = recipients
	for i := range next.Keys {
		k := &next.Keys[i]
		if k.closed() {
			return r, k.whyClosed()
		}
		k.Private, k.Sealed, k.opened = nil, nil, false
	}
	return next, nil
}

// withoutPrivate is r for somebody who only publishes.
func (r *Ring) withoutPrivate() *Ring {
	public := r.clone()
	for i := range public.Keys {
		public.Keys[i].forget()
	}
	return public
}
