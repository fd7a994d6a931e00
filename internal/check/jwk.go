package check

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/jwks"
)

// A JWK is one entry of a key set, with all its members (RFC 7517, section 4). A
// member that is missing or not a string is empty here.
type JWK struct {
	Index              int
	KeyID, Type, Curve string
	Use, Algorithm     string
	members            map[string]json.RawMessage
	public             any // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	err                error
}

// name returns what results call the key.
func (k *JWK) name() string {
	if k.KeyID == "" {
		return fmt.Sprintf("key %d", k.Index)
	}
	return fmt.Sprintf("key %.64q", k.KeyID)
}

// signs reports whether the use of the key allows signatures.
func (k *JWK) signs() bool {
	_, there := k.members["use"]
	return !there || k.Use == "sig"
}

// algorithms returns the algorithms that tokens signed with the key can have
// (RFC 7518, section 3.1), the usual one first.
func (k *JWK) algorithms() []string {
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		if k.Algorithm != "" {
			return []string{k.Algorithm}
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		byCurve := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
		return []string{byCurve[key.Curve.Params().Name]}
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}

// fits reports whether alg is one for keys of this type.
func (k *JWK) fits(alg string) bool {
	any := JWK{public: k.public}
	for _, a := range any.algorithms() {
		if a == alg {
			return true
		}
	}
	return k.public == nil
}

// Keys returns the keys of the set that ServiceAccount tokens can be signed with,
// in their order.
func (o *Observation) Keys() []jwks.PublicKey {
	keys, _, err := jwks.Filter(o.KeySet.Body)
	if err != nil {
		return nil
	}
	return keys
}

// parseKeySet reads a key set one key at a time, so that every fault of every
// key can be reported.
func parseKeySet(data []byte) ([]JWK, error) {
	members, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	var set []json.RawMessage
	if json.Unmarshal(members["keys"], &set) != nil || set == nil {
		return nil, errors.New(`it has no array "keys"`)
	}
	if len(set) > maxJWKs {
		return nil, fmt.Errorf("it has more than %d keys", maxJWKs)
	}
	keys := make([]JWK, len(set))
	for i, raw := range set {
		keys[i] = parseJWK(i, raw)
	}
	return keys, duplicate(data)
}

func parseJWK(i int, raw json.RawMessage) JWK {
	k := JWK{Index: i}
	if k.err = json.Unmarshal(raw, &k.members); k.err != nil {
		return k
	}
	for name, to := range map[string]*string{
		"kid": &k.KeyID, "kty": &k.Type, "crv": &k.Curve, "use": &k.Use, "alg": &k.Algorithm,
	} {
		_ = json.Unmarshal(k.members[name], to)
	}
	// Only the members that make up the key: other checks look at the rest.
	core := make(map[string]json.RawMessage)
	for _, name := range []string{"kty", "crv", "n", "e", "x", "y"} {
		if v, ok := k.members[name]; ok {
			core[name] = v
		}
	}
	text, err := json.Marshal(core)
	if err != nil {
		k.err = err
		return k
	}
	var parsed jose.JSONWebKey
	if k.err = parsed.UnmarshalJSON(text); k.err != nil {
		return k
	}
	k.public = parsed.Key
	// Vault and kube-apiserver refuse the whole set if they cannot read any
	// other member of a key.
	k.err = parsed.UnmarshalJSON(raw)
	return k
}

// parseObject parses a document, which must be a JSON object.
func parseObject(data []byte) (members map[string]json.RawMessage, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		if err := tooComplex(data); err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return nil, describe(data, err)
	}
	return members, nil
}

// describe says what is wrong with bytes that are not a JSON object.
func describe(data []byte, err error) error {
	start := bytes.TrimSpace(data)
	switch {
	case len(start) == 0:
		return errors.New("it is empty")
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return errors.New("it starts with a byte order mark")
	case start[0] == '<':
		return fmt.Errorf("it looks like HTML: %.40q", start)
	case start[0] != '{':
		return fmt.Errorf("it is not a JSON object: %.40q", start)
	}
	return err
}

// duplicate reports a member that an object has twice: which of the two counts
// differs from one relying party to the next (RFC 8259, section 4). Relying
// parties in Go treat members that differ only by case as the same.
func duplicate(data []byte) error {
	type level struct {
		members map[string]bool // nil in an array
		value   bool            // the next token is the value of a member
	}
	var levels []level
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var top *level
		if len(levels) > 0 {
			top = &levels[len(levels)-1]
		}
		if name, ok := token.(string); ok && top != nil && top.members != nil && !top.value {
			folded := strings.ToLower(strings.ToUpper(name))
			if top.members[folded] {
				return fmt.Errorf("the member %.64q occurs twice", name)
			}
			top.members[folded], top.value = true, true
			continue
		}
		if top != nil {
			top.value = false
		}
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{members: map[string]bool{}})
		case json.Delim('['):
			levels = append(levels, level{})
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:len(levels)-1]
		}
	}
}
