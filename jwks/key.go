// Package jwks makes keys for JSON Web Tokens, and key sets to publish them.
//
// [Generate] makes a [SigningKey], and [Marshal] renders public keys as a JSON
// Web Key Set (RFC 7517, section 5). Key IDs, algorithms and the exact JOSE
// header are those of Kubernetes.
package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/go-jose/go-jose/v4"
)

// Limits of an RSA modulus in bits. RFC 7518, section 3.3 requires at least
// 2048. go-jose refuses every key of a set in which one is larger than 4096.
const (
	MinRSABits = 2048
	MaxRSABits = 4096

	// maxUncheckedRSABits is what earlier versions accepted.
	maxUncheckedRSABits = 8192
)

// A PublicKey is the public half of a key: an [*rsa.PublicKey] or an
// [*ecdsa.PublicKey]. It cannot hold a private half, so nothing that is rendered
// from it can contain one.
type PublicKey struct {
	id  string
	alg jose.SignatureAlgorithm
	key crypto.PublicKey
	der []byte
}

// NewPublicKey returns the PublicKey for key, which must be one that relying
// parties can use: RSA with an odd modulus of 2048 to 4096 bits and an odd exponent
// from 3 to 2^31-1, or ECDSA with a point on P-256, P-384 or P-521. The key
// determines the algorithm: RS256, ES256, ES384 or ES512, the four that
// kube-apiserver accepts.
func NewPublicKey(key crypto.PublicKey) (PublicKey, error) {
	k, err := newUnchecked(key)
	if err == nil {
		err = k.Check()
	}
	if err != nil {
		return PublicKey{}, err
	}
	return k, nil
}

// newUnchecked makes a PublicKey of every key that earlier versions accepted.
func newUnchecked(key crypto.PublicKey) (PublicKey, error) {
	alg, err := algorithmOf(key)
	if err != nil {
		return PublicKey{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("encoding public key: %w", err)
	}
	return PublicKey{id: keyID(der), alg: alg, key: key, der: der}, nil
}

// ParsePKIX parses a public key from its SubjectPublicKeyInfo (RFC 5280, section
// 4.1) in DER. It accepts the keys that [NewPublicKey] accepts.
func ParsePKIX(der []byte) (PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("parsing public key: %w", err)
	}
	return NewPublicKey(key)
}

// ParsePKIXUnchecked is [ParsePKIX] for a key that was accepted before: it also
// accepts RSA keys of up to 8192 bits with any modulus and exponent. Callers must
// look at [PublicKey.Check] before they publish it.
func ParsePKIXUnchecked(der []byte) (PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("parsing public key: %w", err)
	}
	return newUnchecked(key)
}

// Check returns why relying parties cannot use the key, and nil for every key that
// was not parsed by a function whose name ends in Unchecked.
func (k PublicKey) Check() error {
	if key, ok := k.key.(*rsa.PublicKey); ok {
		return checkRSA(key.N, big.NewInt(int64(key.E)))
	}
	return nil
}

// KeyID returns the kid. For keys of this program it is the unpadded base64url of
// the SHA-256 of the PKIX DER, as in kube-apiserver, so that a key imported from
// a cluster keeps its kid.
func (k PublicKey) KeyID() string { return k.id }

// Algorithm returns the only algorithm that this key signs with.
func (k PublicKey) Algorithm() jose.SignatureAlgorithm { return k.alg }

// PKIX returns the SubjectPublicKeyInfo in DER. Callers must not modify it.
func (k PublicKey) PKIX() []byte { return k.der }

// Key returns the [*rsa.PublicKey] or [*ecdsa.PublicKey].
func (k PublicKey) Key() crypto.PublicKey { return k.key }

func keyID(der []byte) string {
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// algorithmOf returns the algorithm of a key, and an error for one that earlier
// versions did not accept either.
func algorithmOf(key crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < MinRSABits || bits > maxUncheckedRSABits {
			return "", errRSABits(bits)
		}
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		alg, ok := map[elliptic.Curve]jose.SignatureAlgorithm{
			elliptic.P256(): jose.ES256, elliptic.P384(): jose.ES384, elliptic.P521(): jose.ES512,
		}[key.Curve]
		if !ok {
			return "", errCurve(key.Params().Name)
		}
		if _, err := key.ECDH(); err != nil { // checks the point, and computes nothing
			return "", errNoPoint
		}
		return alg, nil
	}
	return "", fmt.Errorf("key of type %T: want RSA or ECDSA", key)
}

// checkRSA returns why relying parties cannot use an RSA key with this modulus and
// this exponent. It is the only rule for them, wherever a key comes from.
func checkRSA(n, e *big.Int) error {
	switch bits := n.BitLen(); {
	case n.Sign() <= 0:
		return errors.New("not an RSA key: the modulus is not positive")
	case bits < MinRSABits || bits > MaxRSABits:
		return errRSABits(bits)
	case n.Bit(0) == 0:
		return errors.New("not an RSA key: the modulus is even")
	case e.Cmp(big.NewInt(3)) < 0 || e.Cmp(big.NewInt(math.MaxInt32)) > 0 || e.Bit(0) == 0:
		what := e.String()
		if e.BitLen() > 64 {
			what = fmt.Sprintf("of %d bits", e.BitLen())
		}
		return fmt.Errorf("not a usable RSA key: the exponent is %s, want an odd number from 3 to 2147483647", what)
	}
	return nil
}

func errRSABits(bits int) error {
	err := fmt.Errorf("RSA key of %d bits: want %d to %d", bits, MinRSABits, MaxRSABits)
	if bits > MaxRSABits {
		return withHint(err, "many relying parties refuse a whole key set that has such a key: sign with another one")
	}
	return err
}

func errCurve(name string) error {
	return fmt.Errorf("ECDSA key on curve %.64s: want P-256, P-384 or P-521", name)
}

var errNoPoint = errors.New("not an ECDSA key: the point is not on the curve")
