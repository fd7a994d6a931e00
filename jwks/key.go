// Package jwks makes keys for JSON Web Tokens and the key sets that publish
// them.
//
// [Generate] makes a [SigningKey] and [Marshal] renders the public halves of
// some as a JSON Web Key Set (RFC 7517, section 5). Everything between the two
// follows Kubernetes: key IDs, algorithms and the exact JOSE header.
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

// Bounds of an RSA modulus in bits. RFC 7518, section 3.3 asks for at least
// 2048; relying parties pay for anything larger at every token.
const (
	MinRSABits = 2048
	MaxRSABits = 8192
)

// A PublicKey is what the world may know of a key. It holds an
// [*rsa.PublicKey] or an [*ecdsa.PublicKey] and has no room for a private
// half, so neither has anything rendered from it.
type PublicKey struct {
	id  string
	alg jose.SignatureAlgorithm
	key crypto.PublicKey
	der []byte
}

// NewPublicKey describes key, which must be RSA of 2048 to 8192 bits or ECDSA
// on P-256, P-384 or P-521. The algorithm follows from the key: RS256, ES256,
// ES384 or ES512, the four that kube-apiserver accepts.
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

// ParsePKIX reads a public key from its SubjectPublicKeyInfo (RFC 5280,
// section 4.1) in DER. It accepts what [NewPublicKey] accepts.
func ParsePKIX(der []byte) (PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("parsing public key: %w", err)
	}
	return NewPublicKey(key)
}

// KeyID is the kid: for keys of ours the unpadded base64url of the SHA-256 of
// the PKIX DER, as kube-apiserver derives it, so that a key brought over from
// a cluster keeps its name.
func (k PublicKey) KeyID() string { return k.id }

// Algorithm is the one algorithm this key signs with.
func (k PublicKey) Algorithm() jose.SignatureAlgorithm { return k.alg }

// PKIX is the SubjectPublicKeyInfo in DER. Callers must not modify it.
func (k PublicKey) PKIX() []byte { return k.der }

// Key is the [*rsa.PublicKey] or [*ecdsa.PublicKey].
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
