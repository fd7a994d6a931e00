// Package store holds the places where a ring can live. Each implements
// [rotation.Store], whose comment is the contract, and passes the same
// conformance tests.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"oidc-provider/rotation"
)

var scheme = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)

// Open returns the store that spec names: a directory, as a path or as a
// file: URL ("file:./keys", "file:///var/lib/keys"). It need not exist yet.
func Open(spec string) (rotation.Store, error) {
	path := spec
	if s := scheme.FindString(spec); strings.EqualFold(s, "file:") {
		path = strings.TrimPrefix(spec[len(s):], "//")
	} else if s != "" {
		return nil, fmt.Errorf("store %q: unknown kind %q (hint: use file:DIR; for a path with a colon write ./%s)", spec, s, spec)
	}
	if path == "" {
		return nil, errors.New("store: no path (hint: use file:DIR)")
	}
	return NewFile(path), nil
}

// versionOf names a document by its content.
func versionOf(data []byte) rotation.Version {
	sum := sha256.Sum256(data)
	return rotation.Version(hex.EncodeToString(sum[:]))
}
