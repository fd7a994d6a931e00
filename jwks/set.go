package jwks

import (
	"encoding/json"
	"fmt"

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

func fromJWK(jwk jose.JSONWebKey) (PublicKey, error) {
	if jwk.KeyID == "" {
		return PublicKey{}, fmt.Errorf("no kid")
	}
	if !jwk.IsPublic() {
		return PublicKey{}, fmt.Errorf("not a public key")
	}
	if jwk.Use != "" && jwk.Use != "sig" {
		return PublicKey{}, fmt.Errorf("use is %q, want sig", jwk.Use)
	}
	k, err := NewPublicKey(jwk.Key)
	if err != nil {
		return PublicKey{}, err
	}
	if jwk.Algorithm != "" && jwk.Algorithm != string(k.alg) {
		return PublicKey{}, fmt.Errorf("alg is %q, want %s for such a key", jwk.Algorithm, k.alg)
	}
	k.id = jwk.KeyID
	return k, nil
}
