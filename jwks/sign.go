package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Algorithms are the signature algorithms that this package makes keys for (RFC
// 7518, section 3.1), the most widely accepted first.
var Algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512}

// AlgorithmNames returns [Algorithms] as text.
func AlgorithmNames() []string {
	names := make([]string, len(Algorithms))
	for i, a := range Algorithms {
		names[i] = string(a)
	}
	return names
}

// RSABits are the sizes that [Generate] makes, the default first.
var RSABits = []int{2048, 3072, 4096}

// errNotPrivate replaces the errors of the parsers, which may contain something
// derived from private bytes.
var errNotPrivate = errors.New("not a valid private key")

// A SigningKey is a key with both halves. Printing or logging it shows its
// algorithm and kid and nothing else.
type SigningKey struct {
	PublicKey
	private crypto.Signer
	// header is the JOSE header, base64url encoded. It depends only on the key,
	// so it is the same for every token.
	header string
}

// NewSigningKey returns the SigningKey for an [*rsa.PrivateKey] or
// [*ecdsa.PrivateKey] whose public half [NewPublicKey] accepts.
func NewSigningKey(private crypto.Signer) (*SigningKey, error) {
	k, err := newUncheckedSigningKey(private)
	if err == nil {
		err = k.Check()
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

func newUncheckedSigningKey(private crypto.Signer) (*SigningKey, error) {
	switch private.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey:
	default:
		return nil, fmt.Errorf("private key of type %T: want RSA or ECDSA", private)
	}
	public, err := newUnchecked(private.Public())
	if err != nil {
		return nil, err
	}
	// kube-apiserver accepts exactly these three members.
	header := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, public.alg, public.id)
	return &SigningKey{
		PublicKey: public,
		private:   private,
		header:    base64.RawURLEncoding.EncodeToString([]byte(header)),
	}, nil
}

// CheckParameters returns an error if [Generate] cannot make such a key. rsaBits
// is used only for RS256; 0 means the default.
func CheckParameters(alg jose.SignatureAlgorithm, rsaBits int) error {
	if !slices.Contains(Algorithms, alg) {
		return fmt.Errorf("unknown algorithm %q: want one of %v", alg, Algorithms)
	}
	if alg == jose.RS256 && rsaBits != 0 && !slices.Contains(RSABits, rsaBits) {
		return fmt.Errorf("RSA keys of %d bits: want one of %v", rsaBits, RSABits)
	}
	return nil
}

// Generate makes a new key for alg, of rsaBits bits if that is RS256 (0 means
// 2048). This takes some tenths of a second for 2048-bit RSA, and less than a
// millisecond for the others.
func Generate(alg jose.SignatureAlgorithm, rsaBits int) (*SigningKey, error) {
	if err := CheckParameters(alg, rsaBits); err != nil {
		return nil, err
	}
	var private crypto.Signer
	var err error
	switch alg {
	case jose.RS256:
		if rsaBits == 0 {
			rsaBits = RSABits[0]
		}
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("generating %s key: %w", alg, err)
	}
	return NewSigningKey(private)
}

// ParsePKCS8 parses a private key from its PKCS #8 form in DER (RFC 5208).
func ParsePKCS8(der []byte) (*SigningKey, error) {
	k, err := ParsePKCS8Unchecked(der)
	if err == nil {
		err = k.Check()
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// ParsePKCS8Unchecked is to [ParsePKCS8] what [ParsePKIXUnchecked] is to
// [ParsePKIX].
func ParsePKCS8Unchecked(der []byte) (*SigningKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errNotPrivate
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key of type %T: want RSA or ECDSA", key)
	}
	return newUncheckedSigningKey(signer)
}

// PKCS8 returns the private key in PKCS #8 DER. Private key material leaves a
// SigningKey in no other way.
func (k *SigningKey) PKCS8() ([]byte, error) {
	return x509.MarshalPKCS8PrivateKey(k.private)
}

// Sign returns the first and the last segment of a JWS in compact serialization
// (RFC 7515, section 7.1). payload is the segment between them, base64url encoded
// by the caller. Sign does not parse it.
func (k *SigningKey) Sign(payload string) (header, signature string, err error) {
	hash := hashes[k.alg]
	h := hash.New()
	h.Write([]byte(k.header))
	h.Write([]byte{'.'})
	h.Write([]byte(payload))
	digest := h.Sum(nil)

	var sig []byte
	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(rand.Reader, private, hash, digest)
	case *ecdsa.PrivateKey:
		sig, err = signECDSA(private, digest)
	}
	if err != nil {
		return "", "", fmt.Errorf("signing with key %s: %w", k.id, err)
	}
	return k.header, base64.RawURLEncoding.EncodeToString(sig), nil
}

var hashes = map[jose.SignatureAlgorithm]crypto.Hash{
	jose.RS256: crypto.SHA256,
	jose.ES256: crypto.SHA256,
	jose.ES384: crypto.SHA384,
	jose.ES512: crypto.SHA512,
}

// signECDSA returns a signature in the form of RFC 7518, section 3.4: R and S as
// big-endian integers, each padded to the size of the curve, one after the other.
func signECDSA(key *ecdsa.PrivateKey, digest []byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		return nil, err
	}
	size := (key.Params().BitSize + 7) / 8
	sig := make([]byte, 2*size)
	r.FillBytes(sig[:size])
	s.FillBytes(sig[size:])
	return sig, nil
}

// Format prints the algorithm and the kid for every verb, so that no %v or %#v
// prints a private key.
func (k SigningKey) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "SigningKey(%s %s)", k.alg, k.id)
}
