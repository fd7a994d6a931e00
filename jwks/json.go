package jwks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// This file reads JSON in place. A key set comes from a stranger, and
// [encoding/json] makes up to a hundred bytes of objects out of each of its bytes.

// checkJSON returns an error unless data is one JSON object.
func checkJSON(data []byte) error {
	start := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case len(start) == 0:
		return errors.New("it is empty")
	case bytes.HasPrefix(start, bom):
		return withHint(errors.New("it begins with a byte order mark (BOM)"), "save it as UTF-8 without one")
	case isUTF16(start):
		return errUTF16
	case start[0] == '<':
		return errHTML
	case bytes.HasPrefix(start, []byte("\x1f\x8b")):
		return errors.New("it is compressed with gzip, and not JSON")
	case tooDeep(data):
		return fmt.Errorf("it is nested more than %d levels deep", maxDepth)
	case !json.Valid(data):
		return json.Unmarshal(data, new(struct{}))
	case start[0] != '{':
		return errors.New("it is not a JSON object")
	}
	return nil
}

// maxDepth is far above the depth of any key set. The JSON parser allocates for each
// level, even of invalid JSON.
const maxDepth = 1000

func tooDeep(data []byte) bool {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			c := cursor{data, i}
			c.text()
			i = c.at - 1
		case '[', '{':
			if depth++; depth > maxDepth {
				return true
			}
		case ']', '}':
			depth--
		}
	}
	return false
}

// elements returns the elements of a JSON array, which must be valid.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		c := cursor{array, 1}
		for c.more(']') && yield(c.value()) {
		}
	}
}

// members returns the names, as strings in JSON, and the values of the members of a
// JSON object, which must be valid.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		c := cursor{object, 1}
		for c.more('}') {
			name := c.value()
			c.skip(":")
			if !yield(name, c.value()) {
				return
			}
		}
	}
}

// A cursor is a place in valid JSON.
type cursor struct {
	data []byte
	at   int
}

// skip passes over white space and the given bytes.
func (c *cursor) skip(others string) {
	for c.at < len(c.data) && (bytes.IndexByte([]byte(" \t\r\n"), c.data[c.at]) >= 0 ||
		bytes.IndexByte([]byte(others), c.data[c.at]) >= 0) {
		c.at++
	}
}

// more passes over the comma between two elements, and reports whether there is
// another one before the end.
func (c *cursor) more(end byte) bool {
	c.skip(",")
	return c.at < len(c.data) && c.data[c.at] != end
}

// value passes over a value and returns it.
func (c *cursor) value() []byte {
	c.skip("")
	start := c.at
	for depth := 0; c.at < len(c.data); {
		switch c.data[c.at] {
		case '"':
			c.text()
		case '{', '[':
			depth++
			c.at++
		case '}', ']':
			depth--
			c.at++
		default: // within an array or object, or the rest of a number or literal
			c.at++
		}
		if depth == 0 && (c.at == len(c.data) || bytes.IndexByte([]byte(",:]} \t\r\n"), c.data[c.at]) >= 0) {
			break
		}
	}
	return c.data[start:c.at]
}

// text passes over a string.
func (c *cursor) text() {
	for c.at++; c.at < len(c.data) && c.data[c.at] != '"'; c.at++ {
		if c.data[c.at] == '\\' {
			c.at++
		}
	}
	c.at++
}

// unquote appends the content of a valid JSON string to buf. It reports whether raw
// is a string.
func unquote(buf, raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return buf, false
	}
	raw = raw[1 : len(raw)-1]
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(buf, raw...), true
		}
		buf = append(buf, raw[:i]...)
		if c := raw[i+1]; c != 'u' {
			if k := bytes.IndexByte([]byte("bfnrt"), c); k >= 0 {
				c = "\b\f\n\r\t"[k]
			}
			buf, raw = append(buf, c), raw[i+2:]
			continue
		}
		r := codeUnit(raw[i:])
		raw = raw[i+6:]
		if utf16.IsSurrogate(r) {
			second := codeUnit(raw)
			if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
				raw = raw[6:]
			}
		}
		buf = utf8.AppendRune(buf, r)
	}
	return buf, true
}

// codeUnit returns the value of an escape with \u and four hexadecimal digits at the start of
// raw, and -1 for anything else.
func codeUnit(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(raw[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// textOf returns the content of the string raw; nothing for a member that is missing
// or null. name names the member in errors.
func textOf(name string, raw []byte) (string, error) {
	if raw == nil || string(raw) == "null" {
		return "", nil
	}
	text, ok := unquote(nil, raw)
	switch {
	case !ok:
		return "", fmt.Errorf("%s is not a string", name)
	case !utf8.Valid(text):
		return "", fmt.Errorf("%s is not valid UTF-8", name)
	}
	return string(text), nil
}
