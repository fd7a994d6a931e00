package signer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// registered are the claims of RFC 7519, section 4.1, and the one of Kubernetes.
var registered = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "kubernetes.io"}

// maxDepth is far more than the claims of Kubernetes have.
const maxDepth = 1000

// ambiguous returns an error if relying parties can read different claims in the
// same document: some take the first of two members with one name, others the
// last, and some ignore the case of names. Only the names of registered claims are
// compared without case. Of what is not valid JSON, it reads the valid start.
func ambiguous(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var open []*object // the objects and arrays around the next token
	for {
		token, err := dec.Token()
		if err != nil {
			return nil // the end, or an error that the decoder of the claims returns
		}
		var inner *object // the innermost of open
		if len(open) > 0 {
			inner = open[len(open)-1]
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			inner.value()
			if len(open) == maxDepth {
				return fmt.Errorf("they are nested more than %d deep, which not every parser reads", maxDepth)
			}
			open = append(open, &object{array: token == json.Delim('[')})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		default:
			name, isText := token.(string)
			if inner == nil || inner.array || inner.named || !isText {
				inner.value()
				continue
			}
			if err := inner.name(name, len(open) == 1); err != nil {
				return err
			}
		}
	}
}

// An object is a JSON object, or an array, of which a part was read.
type object struct {
	array bool
	named bool // a name was read, and its value comes next
	names map[string]bool
}

// value notes that a value was read. o is nil around the document.
func (o *object) value() {
	if o != nil {
		o.named = false
	}
}

// name notes the name of a member. top says that o is the document.
func (o *object) name(name string, top bool) error {
	if o.names == nil {
		o.names = make(map[string]bool)
	}
	if o.names[name] {
		return fmt.Errorf("member %s occurs twice in an object", quoted(name))
	}
	o.names[name], o.named = true, true
	if !top || slices.Contains(registered, name) {
		return nil
	}
	for _, claim := range registered {
		if strings.EqualFold(name, claim) {
			return fmt.Errorf("member %s differs from %s only in case", quoted(name), claim)
		}
	}
	return nil
}
