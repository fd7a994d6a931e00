package check

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Advice for a number of a key that is encoded in another way than RFC 7518 says.
const (
	encodeAnew    = "encode the key again, as RFC 7518, section 6 says"
	wholeOctets   = "RFC 7518, section 6.2.1.2 wants the full length of the curve, and many libraries refuse the key"
	noBase64      = "RFC 7518, section 2 wants base64url without padding, and many libraries refuse the key"
	shortestForm  = "RFC 7518, section 2 wants the fewest octets; AWS STS and .NET refuse the key"
	unusedBitsSet = "strict decoders refuse it (RFC 4648, section 3.5)"
)

// encodings judges how the numbers of a key are written, whatever their values are.
func encodings(k *JWK) (worst Result) {
	for _, name := range numbers(k) {
		var text string
		if json.Unmarshal(k.members[name], &text) != nil || text == "" {
			continue // other checks report it
		}
		r := encoded(k, name, text)
		if r.Status == Fail {
			return r
		}
		if r.Status == Warn {
			worst = r
		}
	}
	if worst.Status == Warn {
		return worst
	}
	return pass("base64url, of the right length")
}

// numbers returns the names of the members that are numbers in base64url.
func numbers(k *JWK) []string {
	switch k.Type {
	case "RSA":
		return []string{"n", "e"}
	case "EC":
		return []string{"x", "y"}
	case "OKP":
		return []string{"x"}
	}
	return nil
}

func encoded(k *JWK, name, text string) Result {
	bad := func(why, format string, args ...any) Result {
		return fail(fmt.Sprintf("%s: %s ", k.name(), name)+fmt.Sprintf(format, args...), why, encodeAnew)
	}
	switch {
	case strings.ContainsAny(text, " \t\r\n"):
		return bad(noBase64, "contains white space")
	case strings.ContainsAny(text, "+/"):
		return bad(noBase64, "is in standard base64")
	case strings.Contains(text, "="):
		return bad(noBase64, "is padded")
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return bad(noBase64, "is not base64url")
	}
	size, curve := curveSize(k)
	switch {
	case curve && len(data) < size:
		return bad(wholeOctets, "has %d octets, want %d: leading zeros are missing", len(data), size)
	case curve && len(data) > size:
		return bad(wholeOctets, "has %d octets, want %d", len(data), size)
	case k.Type == "RSA" && data[0] == 0:
		return bad(shortestForm, "has a leading zero octet").only("aws", "dotnet")
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(text); err != nil {
		return warn(fmt.Sprintf("%s: %s has unused bits in its last character", k.name(), name), unusedBitsSet, encodeAnew)
	}
	return pass("%s", name)
}

// curveSize returns how many octets each coordinate of the key has, and whether its
// curve is known.
func curveSize(k *JWK) (int, bool) {
	curves := []string{"P-256", "P-384", "P-521", "Ed25519"}
	i := slices.Index(curves, k.Curve)
	if k.Type == "RSA" || i < 0 {
		return 0, false
	}
	return []int{32, 48, 66, 32}[i], true
}
