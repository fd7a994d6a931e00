package jwks

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// The algorithms and curves of keys, by their object identifiers in hexadecimal DER
// (RFC 3279, section 2.3; RFC 4055, section 1.2; RFC 5480, section 2.1.1; RFC 8410,
// section 3).
const (
	oidRSA = "2a864886f70d010101"
	oidPSS = "2a864886f70d01010a"
	oidEC  = "2a8648ce3d0201"
)

// otherAlgorithms are those that no ServiceAccount token is signed with.
var otherAlgorithms = map[string]string{
	"2a8648ce380401": "DSA", "2a8648ce3e0201": "Diffie-Hellman", "2a864886f70d010301": "Diffie-Hellman",
	"2a864886f70d010107": "RSAES-OAEP", "2b656e": "X25519", "2b656f": "X448", "2b6570": "Ed25519", "2b6571": "Ed448",
	"608648016503040311": "ML-DSA-44", "608648016503040312": "ML-DSA-65", "608648016503040313": "ML-DSA-87",
}

// curves have the curves that are supported with an empty name.
var curves = map[string]string{
	"2a8648ce3d030107": "", "2b81040022": "", "2b81040023": "",
	"2b81040021": "P-224", "2a8648ce3d030101": "P-192", "2b8104000a": "secp256k1",
	"2b2403030208010107": "brainpoolP256r1", "2a811ccf5501822d": "SM2",
}

func isEC(algorithm []byte) bool {
	id, _, _ := element(algorithm, tagObjectID)
	return hex.EncodeToString(id[:min(len(id), 16)]) == oidEC
}

// unsupported returns why keys of an algorithm cannot be used, nil if they can. The
// algorithm is an object identifier with parameters.
func unsupported(algorithm []byte) error {
	id, parameters, _ := element(algorithm, tagObjectID)
	switch name := hex.EncodeToString(id[:min(len(id), 16)]); name {
	case oidRSA:
		return nil
	case oidEC:
		if tagOf(parameters) == tagSequence {
			return withHint(errors.New("its curve has parameters instead of a name: want P-256, P-384 or P-521"),
				"openssl ec -param_enc named_curve -in FILE")
		}
		return unsupportedCurve(parameters)
	case oidPSS:
		return withHint(errors.New("its algorithm is RSASSA-PSS: want RSA (rsaEncryption) or ECDSA"),
			"kube-apiserver cannot read such a key either; make one with: openssl genrsa 2048")
	default:
		known := otherAlgorithms[name]
		if known == "" {
			known = objectID(algorithm)
		}
		return fmt.Errorf("its algorithm is %.64s: want RSA or ECDSA", known)
	}
}

// unsupportedCurve returns why the curve with an object identifier cannot be used, nil
// if it can.
func unsupportedCurve(der []byte) error {
	id, _, ok := element(der, tagObjectID)
	if !ok {
		return nil // damaged
	}
	switch name, known := curves[hex.EncodeToString(id[:min(len(id), 16)])]; {
	case known && name == "":
		return nil
	case known:
		return errCurve(name)
	}
	return errCurve(objectID(der))
}
