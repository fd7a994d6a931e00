package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// same compares the answers of all replicas, and of one replica over time.
func same(_ *Observation, d *Document) Result {
	first := d.first()
	for i := range d.Answers {
		a := &d.Answers[i]
		if !a.good() || alike(a.Body, d.Body) {
			continue
		}
		seen := fmt.Sprintf("%s and %s answer differently", first.Address, a.Address)
		if first.Address == a.Address {
			seen = a.Address + " answers differently from one request to the next"
		}
		if lacks := missing(d.Body, a.Body); lacks != "" {
			seen += ": " + lacks
		}
		return fail(seen, "a relying party that gets the wrong answer refuses tokens of the missing key, "+
			"or accepts tokens of a revoked one", "look for an outdated replica or cache")
	}
	return pass("the same %d times", d.good())
}

// alike reports whether two documents say the same: the members of an object,
// and the keys of a set, may come in any order.
func alike(a, b []byte) bool {
	return bytes.Equal(a, b) || bytes.Equal(canonical(a), canonical(b))
}

func canonical(data []byte) []byte {
	var document map[string]any
	if tooComplex(data) != nil || json.Unmarshal(data, &document) != nil {
		return data
	}
	if keys, ok := document["keys"].([]any); ok {
		texts := make([]string, len(keys))
		for i, k := range keys {
			text, _ := json.Marshal(k) // it was decoded from JSON, so it can be encoded
			texts[i] = string(text)
		}
		document["keys"] = sorted(texts)
	}
	text, _ := json.Marshal(document)
	return text
}

// missing names a kid that only one of two key sets has, "" if there is none.
func missing(a, b []byte) string {
	kids := func(data []byte) (kids []string) {
		keys, _ := parseKeySet(data)
		for _, k := range keys {
			kids = append(kids, k.KeyID)
		}
		return kids
	}
	one, other := kids(a), kids(b)
	for range 2 {
		for _, kid := range one {
			if !slices.Contains(other, kid) {
				return fmt.Sprintf("key %.64q is in only one of them", kid)
			}
		}
		one, other = other, one
	}
	return ""
}
