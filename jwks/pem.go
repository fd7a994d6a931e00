package jwks

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// ParsePEM parses the keys in data, in the PEM forms that kube-apiserver accepts
// for --service-account-signing-key-file and --service-account-key-file: private
// keys as PKCS #1, SEC 1 or PKCS #8, public keys as PKIX or PKCS #1, and
// certificates, whose public key is used. It skips blocks without a key (openssl
// writes EC PARAMETERS). Errors never quote the data.
func ParsePEM(data []byte) (private []*SigningKey, public []PublicKey, err error) {
	for n := 1; ; n++ {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		key, err := parseBlock(block)
		if err != nil {
			return nil, nil, fmt.Errorf("PEM block %d (%s): %w", n, block.Type, err)
		}
		switch key := key.(type) {
		case *SigningKey:
			private = append(private, key)
		case PublicKey:
			public = append(public, key)
		}
	}
	if len(private)+len(public) == 0 {
		return nil, nil, errors.New("no key found: want PEM with a private key, a public key or a certificate")
	}
	return private, public, nil
}

// parseBlock returns the *SigningKey or PublicKey in block, or nil if it contains
// something else.
func parseBlock(block *pem.Block) (any, error) {
	der := block.Bytes
	if block.Headers["DEK-Info"] != "" {
		return nil, withHint(errors.New("the key is encrypted"), "decrypt it first: openssl pkey -in FILE")
	}
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err := x509.ParsePKCS1PrivateKey(der)
		return signingKey(key, err)
	case "EC PRIVATE KEY":
		key, err := x509.ParseECPrivateKey(der)
		return signingKey(key, err)
	case "PRIVATE KEY":
		return ParsePKCS8(der)
	case "ENCRYPTED PRIVATE KEY":
		return nil, withHint(errors.New("the key is encrypted"), "decrypt it first: openssl pkcs8 -in FILE")
	case "PUBLIC KEY":
		return ParsePKIX(der)
	case "RSA PUBLIC KEY":
		key, err := x509.ParsePKCS1PublicKey(der)
		if err != nil {
			return nil, err
		}
		return NewPublicKey(key)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		return NewPublicKey(cert.PublicKey)
	}
	return nil, nil
}

// A hinted error has a hint: what its reader can do about it.
type hinted struct {
	error
	hint string
}

func withHint(err error, hint string) error { return &hinted{err, hint} }

// Hint returns what to do about the error.
func (e *hinted) Hint() string { return e.hint }

func signingKey(key crypto.Signer, err error) (any, error) {
	if err != nil {
		return nil, errNotPrivate
	}
	return NewSigningKey(key)
}
