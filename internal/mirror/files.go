package mirror

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"oidc-provider/internal/filewatch"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
	"oidc-provider/jwks"
)

// Files are public keys on disk, such as the --service-account-key-file of a
// kube-apiserver.
type Files struct {
	patterns []string
	watch    filewatch.Set
	last     *fileKeys // nil if the last fetch failed
}

// fileKeys is what files contain.
type fileKeys struct {
	keys    []jwks.PublicKey
	skipped []error
}

// NewFiles returns the keys in the files of all patterns, in their order. A
// pattern is a path, or one with *, ? or [ as in [filepath.Match], which costs
// reading the directory at each fetch. A file contains, in PEM, public keys,
// certificates or private keys, of which only the public half is used, or it is a
// JSON Web Key Set.
func NewFiles(patterns []string) (*Files, error) {
	if len(patterns) == 0 || slices.Contains(patterns, "") {
		return nil, hint.Wrap(errors.New("files of public keys: an empty path"),
			"give a file like /etc/kubernetes/pki/sa.pub")
	}
	for _, p := range patterns {
		if _, err := filepath.Match(p, ""); err != nil {
			return nil, hint.Errorf(`for a file with such a name write \[`,
				"files of public keys: %q is not a valid pattern: %w", p, err)
		}
	}
	return &Files{patterns: slices.Clone(patterns)}, nil
}

func (f *Files) String() string { return "files " + strings.Join(f.patterns, ", ") }

// Fetch implements [Source]. It reads nothing as long as the files look the same.
func (f *Files) Fetch(ctx context.Context) ([]jwks.PublicKey, []error, error) {
	release, err := acquire(ctx, readSlots)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	paths, err := f.paths()
	if err == nil && (f.watch.Due(paths, time.Now(), 0) || f.last == nil) {
		f.last, err = readFiles(paths)
	}
	if err != nil {
		f.last = nil
		return nil, nil, err
	}
	return f.last.keys, f.last.skipped, nil
}

// paths returns the files that the patterns match. Callers must not modify it.
func (f *Files) paths() ([]string, error) {
	if !slices.ContainsFunc(f.patterns, isGlob) {
		return f.patterns, nil
	}
	var paths []string
	for _, p := range f.patterns {
		if !isGlob(p) {
			paths = append(paths, p)
			continue
		}
		matches, err := filepath.Glob(p)
		if err != nil {
			return nil, err
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("no file matches %s", p)
		}
		paths = append(paths, matches...)
	}
	return paths, nil
}

func isGlob(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

func readFiles(paths []string) (*fileKeys, error) {
	all := new(fileKeys)
	for _, path := range paths {
		data, _, err := input.ReadFile(path, maxDocument)
		if err != nil {
			return nil, err
		}
		keys, skipped, err := parseFile(path, data)
		if err == nil {
			err = all.add(keys)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all.skipped = append(all.skipped, skipped...)
	}
	return all, nil
}

func (all *fileKeys) add(keys []jwks.PublicKey) error {
	for _, k := range keys {
		i := slices.IndexFunc(all.keys, func(other jwks.PublicKey) bool { return other.KeyID() == k.KeyID() })
		switch {
		case i < 0:
			all.keys = append(all.keys, k)
		case !same(all.keys[i], k):
			return fmt.Errorf("kid %.64q is another key than in a previous file", k.KeyID())
		}
	}
	return nil
}

func parseFile(path string, data []byte) (keys []jwks.PublicKey, skipped []error, err error) {
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		keys, skipped, err = jwks.Filter(data)
		for i, why := range skipped {
			skipped[i] = fmt.Errorf("%s: %w", path, why)
		}
		return keys, skipped, err
	}
	if err := checkWhole(data); err != nil {
		return nil, nil, err
	}
	private, public, err := jwks.ParsePEM(data)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range private {
		public = append(public, k.PublicKey)
	}
	if len(private) > 0 {
		skipped = append(skipped, fmt.Errorf("%s contains a private key, of which only the public half is used: "+
			"replace it with the output of `openssl pkey -pubout -in %[1]s`", path))
	}
	return public, skipped, nil
}

// checkWhole refuses PEM with a block that cannot be decoded: pem.Decode ignores
// it, and a key would be missing while the file is being written.
func checkWhole(data []byte) error {
	begin := []byte("-----BEGIN ")
	begun := bytes.Count(data, begin)
	whole := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		whole++
	}
	last := data[bytes.LastIndexByte(data, '\n')+1:]
	if len(last) > 0 && len(last) < len(begin) && bytes.HasPrefix(begin, last) {
		begun++
	}
	if whole < begun {
		return hint.Errorf("if the file is being written, this passes; write another file and rename it",
			"%d of %d PEM blocks cannot be read", begun-whole, begun)
	}
	return nil
}
