package jwks

import (
	"bytes"
	"encoding/json"
	"errors"
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

// maxEntries is how many keys a set may have, valid or not: a hundred are more than
// AWS STS reads.
const maxEntries = 1000

// maxReasons is how many errors about keys are kept.
const maxReasons = 20

// Parse parses a JSON Web Key Set (RFC 7517, section 5), of this program or
// another. Kids stay as they are. Parse returns an error for a private or
// symmetric key, a kid that is missing or occurs twice, a use other than sig,
// and a key that [NewPublicKey] does not accept: the publisher of such a set
// should notice.
func Parse(data []byte) ([]PublicKey, error) {
	keys, skipped, err := Filter(data)
	if err == nil && len(skipped) > 0 {
		err = skipped[0]
	}
	if err != nil {
		return nil, err
	}
	return keys, nil
}

var errNoKeys = errors.New("parsing key set: it has no array named keys")

// Filter parses a third-party JSON Web Key Set as relying parties do (RFC 7517,
// section 5). It returns the keys that [Parse] accepts, and an error for each
// other key, or for the first ones and one that says how many others there are.
// Members that are never published again, such as x5c, do not matter. Filter
// refuses the whole set if any key, of any type, has private or symmetric material,
// if a kid names two keys, or if it has more than 1000 keys, valid or not. What it
// allocates is less than 20 times the size of data.
func Filter(data []byte) (keys []PublicKey, skipped []error, err error) {
	array, err := keysArray(data)
	if err != nil {
		return nil, nil, err
	}
	seen := make(map[string]PublicKey)
	var reasons reasons
	i := -1
	for raw := range elements(array) {
		if i++; i == maxEntries {
			return nil, nil, fmt.Errorf("parsing key set: it has more than %d keys", maxEntries)
		}
		k := scanJWK(raw)
		if k.private != "" {
			return nil, nil, withHint(
				fmt.Errorf("%s: it has the member %q, which is private: anyone who can read the set can sign",
					k.at(i), k.private),
				"stop using the key, and publish only public halves")
		}
		key, err := k.parse()
		if raw[0] != '{' {
			err = errors.New("it is not a JSON object")
		}
		if before, twice := seen[key.id]; err == nil && twice {
			if !bytes.Equal(before.der, key.der) {
				return nil, nil, fmt.Errorf("%s: another key has the same kid", k.at(i))
			}
			err = errors.New("it is in the set already")
		}
		if err != nil {
			if reasons.counts() {
				reasons.add(fmt.Errorf("%s: %w", k.at(i), err))
			}
			continue
		}
		seen[key.id] = key
		keys = append(keys, key)
	}
	return keys, reasons.all(), nil
}

// keysArray returns the array of keys, as it is in data.
func keysArray(data []byte) (array []byte, err error) {
	if err := checkJSON(data); err != nil {
		return nil, fmt.Errorf("parsing key set: %w", err)
	}
	single := false
	var buf [maxName]byte
	for quoted, value := range members(bytes.TrimSpace(data)) {
		if len(quoted) > maxName {
			continue
		}
		name, _ := unquote(buf[:0], quoted)
		single = single || string(name) == "kty"
		// Relying parties in Go accept the name in any case.
		if !bytes.EqualFold(name, []byte("keys")) {
			continue
		}
		if array != nil {
			// Private keys in one of them would not be noticed.
			return nil, errors.New("parsing key set: it has two arrays named keys")
		}
		array = value
	}
	switch {
	case len(array) > 0 && array[0] == '[':
		return array, nil
	case single && array == nil:
		return nil, withHint(errNoKeys, `it is a single key: put it into {"keys": [ ]}`)
	}
	return nil, errNoKeys
}

// reasons keeps the first errors about keys or blocks, and counts the others.
type reasons struct {
	first []error
	more  int
}

// counts counts an error, and reports whether it is one of the first, which must be
// added.
func (r *reasons) counts() bool {
	if len(r.first) < maxReasons-1 {
		return true
	}
	r.more++
	return false
}

func (r *reasons) add(err error) { r.first = append(r.first, err) }

func (r *reasons) all() []error {
	if r.more == 0 {
		return r.first
	}
	return append(r.first, fmt.Errorf("and %d more are invalid", r.more))
}
