package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// privateMembers hold private or symmetric key material, or seeds of it (RFC
// 7518, sections 6.2.2, 6.3.2 and 6.4.1; RFC 9964).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "k", "priv"}

// IsPrivate reports whether the member of a JWK with this name holds private
// or symmetric key material. A key with no other private member than oth, the
// further primes (RFC 7518, section 6.3.2.7), can be used as a public key.
func IsPrivate(member string) bool {
	return member == "oth" || slices.Contains(privateMembers, member)
}

// The members that decide what a JWK is (RFC 7517, section 4; RFC 7518, sections
// 6.2.1 and 6.3.1). Others are neither looked at nor published again.
var coreMembers = []string{"kty", "kid", "use", "alg", "key_ops", "crv", "n", "e", "x", "y"}

// maxName is longer than each of these names if all of it is escaped.
const maxName = 64

// A jwk is an entry of a key set that has not been parsed yet.
type jwk struct {
	core    [10][]byte // the value of each of coreMembers, nil if it is missing
	twice   string     // a core member that the key has twice
	private string     // a member that is private
}

// scanJWK finds the members of an entry of a key set, which must be valid JSON.
func scanJWK(raw []byte) (k jwk) {
	if len(raw) == 0 || raw[0] != '{' {
		return k
	}
	var buf [maxName]byte
	for quoted, value := range members(raw) {
		if len(quoted) > maxName {
			continue
		}
		name, _ := unquote(buf[:0], quoted)
		if i := indexOf(coreMembers, name); i >= 0 {
			if k.core[i] != nil {
				k.twice = coreMembers[i]
			}
			k.core[i] = value
		}
		if i := indexOf(privateMembers, name); i >= 0 {
			k.private = privateMembers[i]
		}
	}
	return k
}

func indexOf(names []string, name []byte) int {
	return slices.IndexFunc(names, func(n string) bool { return n == string(name) })
}

// member returns the value of a core member.
func (k *jwk) member(name string) []byte { return k.core[slices.Index(coreMembers, name)] }

// at says where in the set the key is. The kid is empty if it is not a string.
func (k *jwk) at(i int) string {
	kid, _ := textOf("kid", k.member("kid"))
	return fmt.Sprintf("key %d of the set (kid %.64q)", i, kid)
}

// parse returns the key with its own kid.
func (k *jwk) parse() (PublicKey, error) {
	if k.twice != "" {
		return PublicKey{}, fmt.Errorf("it has the member %q twice", k.twice)
	}
	kid, err := textOf("kid", k.member("kid"))
	if err != nil {
		return PublicKey{}, err
	}
	if kid == "" {
		return PublicKey{}, errors.New("no kid")
	}
	if err := k.checkUse(); err != nil {
		return PublicKey{}, err
	}
	material, err := k.material()
	if err != nil {
		return PublicKey{}, err
	}
	key, err := NewPublicKey(material)
	if err != nil {
		return PublicKey{}, err
	}
	alg, err := textOf("alg", k.member("alg"))
	if err != nil {
		return PublicKey{}, err
	}
	if alg != "" && alg != string(key.alg) {
		return PublicKey{}, fmt.Errorf("alg is %.64q, want %s for such a key", alg, key.alg)
	}
	key.id = kid
	return key, nil
}

// checkUse refuses a key that is not for signatures (RFC 7517, sections 4.2 and 4.3).
func (k *jwk) checkUse() error {
	use, err := textOf("use", k.member("use"))
	if err != nil {
		return err
	}
	if use != "" && use != "sig" {
		return fmt.Errorf("use is %.64q, want sig", use)
	}
	operations := k.member("key_ops")
	if operations == nil || string(operations) == "null" {
		return nil
	}
	if operations[0] != '[' {
		return errors.New("key_ops is not an array")
	}
	for op := range elements(operations) {
		if len(op) > maxName {
			continue
		}
		if name, ok := unquote(nil, op); ok && string(name) == "verify" {
			return nil
		}
	}
	return errors.New("key_ops does not contain verify")
}

// material returns the numbers of the key (RFC 7518, sections 6.2.1 and 6.3.1).
func (k *jwk) material() (crypto.PublicKey, error) {
	kty, err := textOf("kty", k.member("kty"))
	switch {
	case err != nil:
		return nil, err
	case kty == "RSA":
		return k.rsa()
	case kty == "EC":
		return k.ecdsa()
	}
	return nil, fmt.Errorf("kty is %.64q: want RSA or ECDSA", kty)
}

func (k *jwk) rsa() (*rsa.PublicKey, error) {
	n, err := k.bytes("n")
	if err != nil {
		return nil, err
	}
	e, err := k.bytes("e")
	if err != nil {
		return nil, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if err := checkRSA(modulus, exponent); err != nil { // the exponent may be larger than an int
		return nil, err
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

func (k *jwk) ecdsa() (*ecdsa.PublicKey, error) {
	crv, err := textOf("crv", k.member("crv"))
	if err != nil {
		return nil, err
	}
	curve := map[string]elliptic.Curve{
		"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521(),
	}[crv]
	if curve == nil {
		return nil, errCurve(fmt.Sprintf("%.32q", crv))
	}
	point := []byte{4} // uncompressed
	for _, name := range []string{"x", "y"} {
		coordinate, err := k.bytes(name)
		if err != nil {
			return nil, err
		}
		if size := (curve.Params().BitSize + 7) / 8; len(coordinate) != size {
			return nil, fmt.Errorf("%s has %d bytes, want %d on this curve", name, len(coordinate), size)
		}
		point = append(point, coordinate...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, errNoPoint
	}
	return key, nil
}

// maxNumber, in characters of base64url, is far longer than a number of a key that
// is accepted.
const maxNumber = 4096

// bytes decodes a number of the key.
func (k *jwk) bytes(name string) ([]byte, error) {
	raw := k.member(name)
	if len(raw) > maxNumber {
		return nil, fmt.Errorf("%s has %d characters, which is too long", name, len(raw))
	}
	text, err := textOf(name, raw)
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, fmt.Errorf("%s is missing", name)
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%s is not base64url without padding", name)
	}
	return data, nil
}
