package mirror

import (
	"context"
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
	last     *fileKeys // nil if not every file could be read
	// good is what each file contained when it could be read last.
	good map[string]*fileKeys
}

// fileKeys is what files contain.
type fileKeys struct {
	keys    []jwks.PublicKey
	skipped []error
}

// NewFiles returns the keys in the files of all patterns, in their order. A
// pattern is a path, or one with *, ? or [ as in [filepath.Match], which costs
// reading the directory at each fetch. As in a shell, such a pattern matches no
// name that begins with a dot unless it has that dot: the kubelet and editors have
// files of that kind. A file contains, in PEM, public keys, certificates or private
// keys, of which only the public half is used, or it is a JSON Web Key Set. Keys
// that are not supported, and files without any, hide no others.
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

// Fetch implements [Source]. It reads nothing as long as the files look the same. A
// file that cannot be read, or has a damaged key, changes nothing: the keys that it
// had stay.
func (f *Files) Fetch(ctx context.Context) ([]jwks.PublicKey, []error, error) {
	release, err := acquire(ctx, readSlots)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	paths, err := f.paths()
	if err != nil {
		f.last = nil
		return nil, nil, err
	}
	if !f.watch.Due(paths, time.Now(), 0) && f.last != nil {
		return f.last.keys, f.last.skipped, nil
	}
	all, err := f.read(paths)
	f.last = all
	if err != nil {
		f.last = nil
	}
	if all == nil {
		return nil, nil, err
	}
	return all.keys, all.skipped, err
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
		matches, err := input.Bounded(p, func() ([]string, error) { return filepath.Glob(p) })
		if err != nil {
			return nil, err
		}
		matches = slices.DeleteFunc(matches, func(path string) bool { return hidden(p, path) })
		if len(matches) == 0 {
			return nil, fmt.Errorf("no file matches %s", p)
		}
		paths = append(paths, matches...)
	}
	return paths, nil
}

func isGlob(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// hidden reports whether path has a name that begins with a dot where the pattern,
// which it matches, has none.
func hidden(pattern, path string) bool {
	split := func(p string) []string { return strings.Split(filepath.ToSlash(filepath.Clean(p)), "/") }
	patterns, names := split(pattern), split(path)
	for i := range min(len(patterns), len(names)) {
		if strings.HasPrefix(names[i], ".") && !strings.HasPrefix(patterns[i], ".") {
			return true
		}
	}
	return false
}

// read reads the files. With an error it returns what could be read, and nil if that
// is not known.
func (f *Files) read(paths []string) (*fileKeys, error) {
	all, good := new(fileKeys), make(map[string]*fileKeys)
	var failures []error
	incomplete := false
	for _, path := range paths {
		before := f.good[path]
		one, err := f.readFile(path, before)
		if err != nil {
			failures = append(failures, err)
			incomplete = incomplete || before == nil
			one = before
		}
		if one == nil {
			continue
		}
		if err := all.add(path, one); err != nil {
			return nil, err
		}
		good[path] = one
	}
	f.good = good
	if len(failures) == 0 {
		return all, nil
	}
	return all, &partialError{errors.Join(failures...), incomplete}
}

// readFile reads a file. It is an error if there is no key in a file that had some
// before: another program may be writing it.
func (f *Files) readFile(path string, before *fileKeys) (*fileKeys, error) {
	if info := input.Stat(path)[0].Info; info != nil && !info.Mode().IsRegular() && !slices.Contains(f.patterns, path) {
		return &fileKeys{skipped: []error{fmt.Errorf("%s is not a regular file", path)}}, nil
	}
	data, _, err := input.ReadFile(path, maxDocument)
	if err != nil {
		return nil, err
	}
	c, err := jwks.ParseFile(data)
	if err == nil {
		err = c.Check()
	}
	var noKey *jwks.NoKeyError
	if errors.As(err, &noKey) && c == nil {
		c = &jwks.Contents{Skipped: []error{err}}
	}
	hadKeys := before != nil && len(before.keys) > 0
	if err != nil && (c == nil || hadKeys) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return contents(path, c), nil
}

// contents returns what a file contains, with its path in the errors.
func contents(path string, c *jwks.Contents) *fileKeys {
	k := &fileKeys{keys: c.All()}
	for _, why := range c.Skipped {
		k.skipped = append(k.skipped, fmt.Errorf("%s: %w", path, why))
	}
	if len(c.Private) > 0 {
		k.skipped = append(k.skipped, hint.Errorf("replace it with the output of `openssl pkey -pubout -in "+path+"`",
			"%s contains a private key, of which only the public half is used", path))
	}
	return k
}

func (all *fileKeys) add(path string, more *fileKeys) error {
	for _, k := range more.keys {
		i := slices.IndexFunc(all.keys, func(other jwks.PublicKey) bool { return other.KeyID() == k.KeyID() })
		switch {
		case i < 0:
			all.keys = append(all.keys, k)
		case !same(all.keys[i], k):
			return fmt.Errorf("%s: kid %.64q is another key than in a previous file", path, k.KeyID())
		}
	}
	all.skipped = append(all.skipped, more.skipped...)
	return nil
}
