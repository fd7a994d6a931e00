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

// Parse reads a JSON Web Key Set that somebody else may have made. The kids
// are taken as they stand. A set with a private or symmetric key, a kid that
// is missing or stands twice, a use other than sig, or a key that
// [NewPublicKey] would not take, is an error: who publishes such a set should
// hear of it.
func Parse(data []byte) ([]PublicKey, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("parsing key set: %w", err)
	}
	if set.Keys == nil {
		return nil, fmt.Errorf("parsing key set: there is no array keys in it")
	}
	seen := make(map[string]bool, len(set.Keys))
	keys := make([]PublicKey, 0, len(set.Keys))
	for i, jwk := range set.Keys {
		k, err := fromJWK(jwk)
		if err != nil {
			return nil, fmt.Errorf("key %d of the set (kid %q): %w", i, jwk.KeyID, err)
		}
		if seen[k.id] {
			return nil, fmt.Errorf("key %d of the set: kid %q stands twice", i, k.id)
		}
		seen[k.id] = true
		keys = append(keys, k)
	}
	return keys, nil
}

// privateMembers hold private or symmetric key material, or seeds of it (RFC
// 7518, sections 6.2.2, 6.3.2 and 6.4.1; RFC 9964).
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

// IsPrivate reports whether the member of a JWK with this name holds private
// or symmetric key material.
func IsPrivate(member string) bool { return slices.Contains(privateMembers, member) }

// Filter reads a JSON Web Key Set of somebody else as relying parties do (RFC
// 7517, section 5): it passes the keys that [Parse] takes, and says why of
// each other one. The whole set is an error if any key of it, of whatever
// type, has private or symmetric material, or if a kid names two keys.
func Filter(data []byte) (keys []PublicKey, skipped []error, err error) {
	var set struct{ Keys rawKeys }
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, nil, fmt.Errorf("parsing key set: %w", err)
	}
	if set.Keys == nil {
		return nil, nil, fmt.Errorf("parsing key set: there is no array keys in it")
	}
	seen := make(map[string]PublicKey, len(set.Keys))
	for i, raw := range set.Keys {
		var members map[string]json.RawMessage
		_ = json.Unmarshal(raw, &members) // what is no object has no members
		var kid string
		_ = json.Unmarshal(members["kid"], &kid)
		where := fmt.Sprintf("key %d of the set (kid %.64q)", i, kid)
		for _, name := range privateMembers {
			if _, ok := members[name]; ok {
				return nil, nil, fmt.Errorf("%s: it has the member %q, which is private: whoever can read the set can sign (hint: take the key out of use, and publish public halves only)", where, name)
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
			return nil, nil, fmt.Errorf("%s: the kid stands twice, for different keys", where)
		case twice:
			skipped = append(skipped, fmt.Errorf("%s: it stands in the set already", where))
			continue
		}
		seen[k.id] = k
		keys = append(keys, k)
	}
	return keys, skipped, nil
}

// rawKeys are keys of which none has been looked at. A second array would
// replace the first, with whatever private keys are in it.
type rawKeys []json.RawMessage

func (r *rawKeys) UnmarshalJSON(data []byte) error {
	if *r != nil {
		return errors.New("keys stands twice in it")
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
