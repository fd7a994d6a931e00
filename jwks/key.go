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
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Limits of an RSA modulus in bits. RFC 7518, section 3.3 requires at least
// 2048; a larger one costs relying parties time for every token.
const (
	MinRSABits = 2048
	MaxRSABits = 8192
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

// NewPublicKey returns the PublicKey for key, which must be RSA of 2048 to 8192
// bits or ECDSA on P-256, P-384 or P-521. The key determines the algorithm:
// RS256, ES256, ES384 or ES512, the four that kube-apiserver accepts.
func NewPublicKey(key crypto.PublicKey) (PublicKey, error) {
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

func algorithmOf(key crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < MinRSABits || bits > MaxRSABits {
			return "", fmt.Errorf("RSA key of %d bits: want %d to %d", bits, MinRSABits, MaxRSABits)
		}
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
		return "", fmt.Errorf("ECDSA key on curve %s: want P-256, P-384 or P-521", key.Params().Name)
	}
	return "", fmt.Errorf("key of type %T: want RSA or ECDSA", key)
}
