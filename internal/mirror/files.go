package mirror

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"oidc-provider/jwks"
)

// Files are public keys on disk, such as the --service-account-key-file of a
// kube-apiserver.
type Files struct {
	patterns []string
	last     *read // nil if the last fetch failed
}

// A read is what was found in the files when they were last read.
type read struct {
	files   []file
	keys    []jwks.PublicKey
	skipped []error
	// settled says that no file had changed shortly before it was read. One
	// that had may have changed once more since, by clocks that are coarse
	// without a trace.
	settled bool
}

// A file is one that was read, as it was then.
type file struct {
	path string
	info fs.FileInfo
}

const settling = 2 * time.Second

// NewFiles are the keys in the files of all patterns, in their order. A pattern
// is a path, or one with *, ? or [ as in [filepath.Match], which costs reading
// the directory at each fetch. A file has, in PEM, public keys, certificates or
// private keys, of which only the public half is taken, or is a JSON Web Key
// Set.
func NewFiles(patterns []string) (*Files, error) {
	if len(patterns) == 0 || slices.Contains(patterns, "") {
		return nil, errors.New("files of public keys: an empty path (hint: give a file like /etc/kubernetes/pki/sa.pub)")
	}
	for _, p := range patterns {
		if _, err := filepath.Match(p, ""); err != nil {
			return nil, fmt.Errorf("files of public keys: %q is no pattern: %w (hint: for a file with such a name write \\[)", p, err)
		}
	}
	return &Files{patterns: slices.Clone(patterns)}, nil
}

func (f *Files) String() string { return "files " + strings.Join(f.patterns, ", ") }

// Fetch implements [Source]. It reads nothing as long as the files look the
// same.
func (f *Files) Fetch(ctx context.Context) ([]jwks.PublicKey, []error, error) {
	release, err := acquire(ctx, disk)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if !f.changed() {
		return f.last.keys, f.last.skipped, nil
	}
	if f.last, err = f.read(); err != nil {
		return nil, nil, err
	}
	return f.last.keys, f.last.skipped, nil
}

// changed reports whether the files have to be read.
func (f *Files) changed() bool {
	if f.last == nil || !f.last.settled {
		return true
	}
	known := f.last.files
	for _, p := range f.patterns {
		paths := []string{p}
		if isGlob(p) {
			paths, _ = filepath.Glob(p)
		}
		for _, path := range paths {
			if len(known) == 0 || known[0].path != path || !known[0].unchanged() {
				return true
			}
			known = known[1:]
		}
	}
	return len(known) > 0
}

func (f *file) unchanged() bool {
	now, err := os.Stat(f.path)
	return err == nil && os.SameFile(now, f.info) && now.Size() == f.info.Size() && now.ModTime().Equal(f.info.ModTime())
}

func isGlob(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

func (f *Files) read() (*read, error) {
	began := time.Now()
	r := &read{settled: true}
	for _, p := range f.patterns {
		paths := []string{p}
		if isGlob(p) {
			var err error
			if paths, err = filepath.Glob(p); err != nil {
				return nil, err
			}
			if len(paths) == 0 {
				return nil, fmt.Errorf("there is no file %s", p)
			}
		}
		for _, path := range paths {
			if err := r.add(path, began); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

func (r *read) add(path string, began time.Time) error {
	opened, info, err := openRegular(path)
	if err != nil {
		return err
	}
	defer opened.Close()
	data, err := readAtMost(opened, maxDocument)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	keys, skipped, err := parseFile(path, data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.files = append(r.files, file{path, info})
	r.skipped = append(r.skipped, skipped...)
	if began.Sub(info.ModTime()) < settling {
		r.settled = false
	}
	for _, k := range keys {
		i := slices.IndexFunc(r.keys, func(other jwks.PublicKey) bool { return other.KeyID() == k.KeyID() })
		switch {
		case i < 0:
			r.keys = append(r.keys, k)
		case !same(r.keys[i], k):
			return fmt.Errorf("%s: kid %.64q is another key than in a file before it", path, k.KeyID())
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
		skipped = append(skipped, fmt.Errorf("%s holds a private key: its public half is published, and this program has no use for the other (hint: openssl pkey -pubout -in %[1]s)", path))
	}
	return public, skipped, nil
}

// checkWhole refuses PEM of which some block cannot be decoded: pem.Decode
// passes it over, and a key would go missing while the file is being written.
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
		return fmt.Errorf("%d of %d PEM blocks cannot be read (hint: if it is being written, this passes; write to another file and rename it)", begun-whole, begun)
	}
	return nil
}
