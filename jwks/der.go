package jwks

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// maxDER, in bytes, is far above any certificate. The objects that are made of one are
// larger than itself.
const maxDER = 64 << 10

// Tags of DER (X.690).
const (
	tagInteger     = 0x02
	tagBitString   = 0x03
	tagOctetString = 0x04
	tagObjectID    = 0x06
	tagSequence    = 0x30
	tagVersion     = 0xa0 // [0], explicit
)

// parseDER returns the *SigningKey or PublicKey in der, in whatever form it is. The
// error is a [damagedError] if that cannot be read, and otherwise the reason why the
// key cannot be used.
func parseDER(der []byte) (any, error) {
	if len(der) > maxDER {
		return nil, fmt.Errorf("it is larger than %d bytes", maxDER)
	}
	outer, rest, ok := element(der, tagSequence)
	if !ok || len(rest) > 0 {
		return nil, errDamagedKey
	}
	first, second := tagOf(outer), byte(0)
	if _, rest, ok := element(outer, first); ok {
		second = tagOf(rest)
	}
	switch {
	case first == tagSequence && second == tagBitString:
		return parsePublic(der, outer)
	case first == tagSequence && second == tagSequence:
		return parseCertificate(der, outer)
	case first == tagInteger && second == tagSequence:
		return parsePrivate(der, outer)
	case first == tagInteger && second == tagOctetString:
		key, err := x509.ParseECPrivateKey(der)
		return usable(key, err, whyNotEC(outer))
	case first == tagInteger && second == tagInteger:
		return parseRSA(der, outer)
	}
	return nil, errDamagedKey
}

var errDamagedKey = &damagedError{errors.New("it is not a valid private key, public key or certificate")}

// usable returns a key that was parsed. Otherwise it returns why the key cannot be
// used, or if that is nil, that it is damaged.
func usable(key any, err, why error) (any, error) {
	switch {
	case err == nil:
	case why != nil:
		return nil, why
	default:
		return nil, errDamagedKey
	}
	if signer, ok := key.(crypto.Signer); ok {
		k, err := NewSigningKey(signer)
		return k, err
	}
	k, err := NewPublicKey(key)
	return k, err
}

// parsePublic parses a SubjectPublicKeyInfo (RFC 5280, section 4.1): an algorithm and
// a string of bits.
func parsePublic(der, inner []byte) (any, error) {
	algorithm, rest, _ := element(inner, tagSequence)
	if err := unsupported(algorithm); err != nil {
		return nil, err
	}
	bits, _, _ := element(rest, tagBitString)
	if len(bits) > 0 {
		bits = bits[1:] // after the number of unused ones
	}
	why := whyNotRSA(bits)
	if isEC(algorithm) {
		why = whyNotPoint(bits)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	return usable(key, err, why)
}

// parseCertificate parses the public key of a certificate (RFC 5280, section 4.1).
func parseCertificate(der, inner []byte) (any, error) {
	cert, err := x509.ParseCertificate(der)
	if err == nil && cert.PublicKey != nil {
		return usable(cert.PublicKey, nil, nil)
	}
	signed, _, _ := element(inner, tagSequence)
	if tagOf(signed) == tagVersion {
		_, signed, _ = element(signed, tagVersion)
	}
	for range 5 { // serial number, algorithm, issuer, validity, subject
		_, signed, _ = element(signed, tagOf(signed))
	}
	public, _, ok := element(signed, tagSequence)
	if !ok {
		return nil, errDamagedKey
	}
	key, err := parsePublic(signed[:len(signed)-len(after(signed))], public)
	if err == nil { // something else in the certificate is wrong
		return nil, errDamagedKey
	}
	return key, err
}

// parsePrivate parses a PrivateKeyInfo (RFC 5958): a version, an algorithm and a
// string of octets.
func parsePrivate(der, inner []byte) (any, error) {
	_, rest, _ := element(inner, tagInteger)
	algorithm, rest, _ := element(rest, tagSequence)
	if err := unsupported(algorithm); err != nil {
		return nil, err
	}
	octets, _, _ := element(rest, tagOctetString)
	numbers, _, _ := element(octets, tagSequence)
	_, numbers, _ = element(numbers, tagInteger) // the version
	key, err := x509.ParsePKCS8PrivateKey(der)
	return usable(key, err, checkNumbers(numbers))
}

// parseRSA parses an RSA key in its own form (RFC 8017, appendix A.1): of integers, two
// if it is public.
func parseRSA(der, inner []byte) (any, error) {
	_, rest, _ := element(inner, tagInteger)
	if _, more, _ := element(rest, tagInteger); len(more) > 0 {
		key, err := x509.ParsePKCS1PrivateKey(der)
		return usable(key, err, checkNumbers(rest))
	}
	if err := whyNotRSA(der); err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS1PublicKey(der)
	return usable(key, err, nil)
}

// element returns the content of the first element of der, which must have that tag,
// and what follows it.
func element(der []byte, tag byte) (content, rest []byte, ok bool) {
	if len(der) < 2 || der[0] != tag {
		return nil, nil, false
	}
	length, at := int(der[1]), 2
	if octets := length - 0x80; octets >= 0 {
		if octets < 1 || octets > 3 || len(der) < at+octets {
			return nil, nil, false
		}
		for length = 0; octets > 0; octets-- {
			length = length<<8 | int(der[at])
			at++
		}
	}
	if len(der)-at < length {
		return nil, nil, false
	}
	return der[at : at+length], der[at+length:], true
}

func tagOf(der []byte) byte {
	if len(der) == 0 {
		return 0
	}
	return der[0]
}

// after returns what follows the first element of der.
func after(der []byte) []byte {
	_, rest, _ := element(der, tagOf(der))
	return rest
}

// whyNotRSA returns why the key cannot be used whose modulus and exponent are a
// sequence, and nil if it can, or cannot be read.
func whyNotRSA(der []byte) error {
	numbers, _, _ := element(der, tagSequence)
	return checkNumbers(numbers)
}

// checkNumbers is [checkRSA] for the first two integers of der.
func checkNumbers(der []byte) error {
	n, rest, ok := element(der, tagInteger)
	e, _, too := element(rest, tagInteger)
	if !ok || !too || len(n) == 0 || len(e) == 0 {
		return nil
	}
	return checkRSA(integer(n), integer(e))
}

func integer(content []byte) *big.Int {
	i := new(big.Int).SetBytes(content)
	if content[0]&0x80 != 0 { // in two's complement
		i.Sub(i, new(big.Int).Lsh(big.NewInt(1), uint(8*len(content))))
	}
	return i
}

// whyNotPoint returns why the point of a key on a curve that is supported cannot be
// used, nil if it looks as if it could.
func whyNotPoint(point []byte) error {
	switch {
	case len(point) > 32 && (point[0] == 2 || point[0] == 3):
		return withHint(errors.New("its point is compressed"), "openssl ec -pubin -conv_form uncompressed -in FILE")
	case len(point)%2 == 1 && len(point) > 64 && point[0] == 4:
		return errNoPoint
	}
	return nil
}

// whyNotEC returns why the curve of a private key (RFC 5915) cannot be used.
func whyNotEC(inner []byte) error {
	rest := after(after(inner)) // version, key
	curve, _, ok := element(rest, tagVersion)
	if !ok {
		return nil
	}
	return unsupportedCurve(curve)
}

// objectID returns an object identifier in dotted form.
func objectID(der []byte) string {
	var id asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(der, &id); err != nil {
		return "unknown"
	}
	return id.String()
}

// isDER reports whether data is one sequence.
func isDER(data []byte) bool {
	_, rest, ok := element(data, tagSequence)
	return ok && len(rest) == 0
}
