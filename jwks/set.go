package jwks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// ContentType is the media type of a key set (RFC 7517, section 8.5.2).
const ContentType = "application/jwk-set+json"

// Marshal renders keys, in their order, as a JSON Web Key Set. Each key has
// exactly the members kty, use, alg, kid and n, e or crv, x, y: some relying
// parties fail on any other.
func Marshal(keys []PublicKey) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, len(keys))}
	for i, k := range keys {
		set.Keys[i] = jose.JSONWebKey{Key: k.key, KeyID: k.id, Algorithm: string(k.alg), Use: "sig"}
	}
	data, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encoding key set: %w", err)
	}
	return data, nil
}

// Parse parses a JSON Web Key Set (RFC 7517, section 5), of this program or
// another. Kids stay as they are. Parse returns an error for a private or
// symmetric key, a kid that is missing or occurs twice, a use other than sig,
// and a key that [NewPublicKey] does not accept: the publisher of such a set
// should notice.
func Parse(data []byte) ([]PublicKey, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("parsing key set: %w", err)
	}
	if set.Keys == nil {
		return nil, errNoKeys
	}
	seen := make(map[string]bool, len(set.Keys))
	keys := make([]PublicKey, 0, len(set.Keys))
	for i, jwk := range set.Keys {
		k, err := fromJWK(jwk)
		if err != nil {
			return nil, fmt.Errorf("key %d of the set (kid %q): %w", i, jwk.KeyID, err)
		}
		if seen[k.id] {
			return nil, fmt.Errorf("key %d of the set: kid %q is in it twice", i, k.id)
		}
		seen[k.id] = true
		keys = append(keys, k)
	}
	return keys, nil
}

var errNoKeys = errors.New("parsing key set: it has no array named keys")

// privateMembers hold private or symmetric key material, or seeds of it (RFC
// 7518, sections 6.2.2, 6.3.2 and 6.4.1; RFC 9964).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

// IsPrivate reports whether the member of a JWK with this name holds private
// or symmetric key material.
func IsPrivate(member string) bool { return slices.Contains(privateMembers, member) }

// Filter parses a third-party JSON Web Key Set as relying parties do (RFC 7517,
// section 5). It returns the keys that [Parse] accepts, and an error for each
// other key. It refuses the whole set if any key, of any type, has private or
// symmetric material, or if a kid names two keys.
func Filter(data []byte) (keys []PublicKey, skipped []error, err error) {
	var set struct{ Keys rawKeys }
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, nil, fmt.Errorf("parsing key set: %w", err)
	}
	if set.Keys == nil {
		return nil, nil, errNoKeys
	}
	seen := make(map[string]PublicKey, len(set.Keys))
	for i, raw := range set.Keys {
		var members map[string]json.RawMessage
		_ = json.Unmarshal(raw, &members) // only an object has members
		var kid string
		_ = json.Unmarshal(members["kid"], &kid)
		where := fmt.Sprintf("key %d of the set (kid %.64q)", i, kid)
		for _, name := range privateMembers {
			if _, ok := members[name]; ok {
				return nil, nil, withHint(
					fmt.Errorf("%s: it has the member %q, which is private: anyone who can read the set can sign", where, name),
					"stop using the key, and publish only public halves")
			}
		}
		k, err := parseJWK(raw)
		if err != nil {
			skipped = append(skipped, fmt.Errorf("%s: %w", where, err))
			continue
		}
		before, twice := seen[k.id]
		switch {
		case twice && !bytes.Equal(before.der, k.der):
			return nil, nil, fmt.Errorf("%s: another key has the same kid", where)
		case twice:
			skipped = append(skipped, fmt.Errorf("%s: it is in the set already", where))
			continue
		}
		seen[k.id] = k
		keys = append(keys, k)
	}
	return keys, skipped, nil
}

// rawKeys are keys that have not been parsed. A second array would replace the
// first one, and private keys in that would not be noticed.
type rawKeys []json.RawMessage

func (r *rawKeys) UnmarshalJSON(data []byte) error {
	if *r != nil {
		return errors.New("it has two arrays named keys")
	}
	return json.Unmarshal(data, (*[]json.RawMessage)(r))
}

func parseJWK(raw []byte) (PublicKey, error) {
	var jwk jose.JSONWebKey
	if err := json.Unmarshal(raw, &jwk); err != nil {
		return PublicKey{}, err
	}
	return fromJWK(jwk)
}

func fromJWK(jwk jose.JSONWebKey) (PublicKey, error) {
	if jwk.KeyID == "" {
		return PublicKey{}, fmt.Errorf("no kid")
	}
	if !jwk.IsPublic() {
		return PublicKey{}, fmt.Errorf("not a public key")
	}
	if jwk.Use != "" && jwk.Use != "sig" {
		return PublicKey{}, fmt.Errorf("use is %.64q, want sig", jwk.Use)
	}
	k, err := NewPublicKey(jwk.Key)
	if err != nil {
		return PublicKey{}, err
	}
	if jwk.Algorithm != "" && jwk.Algorithm != string(k.alg) {
		return PublicKey{}, fmt.Errorf("alg is %.64q, want %s for such a key", jwk.Algorithm, k.alg)
	}
	k.id = jwk.KeyID
	return k, nil
}
