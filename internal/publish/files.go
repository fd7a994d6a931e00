// Package publish writes the documents of an issuer where relying parties read
// them without asking a server, and finds out what such a copy contains.
//
// [WriteFiles] writes files for a web server or a bucket. [ParseContent] reads
// what a registered copy of the key set contains, in the formats that relying
// parties show it, and [Content.Compare] compares that with the ring: what may be
// confirmed, what the copy has lost, and what should not be there.
package publish

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"oidc-provider/discovery"
)

// WriteFiles writes the documents of an issuer as files: those of https://HOST/PATH
// below dir/HOST/PATH. documents has them by their path below the root of the host.
//
// Files that have the right content are not touched; each of the others is
// replaced in one step. Other files in dir are neither read nor changed. On an
// error, the returned names are those that were finished before it.
func WriteFiles(dir string, issuer discovery.Issuer, documents map[string][]byte) (
	written, unchanged []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(dir) // no host or path of an issuer leads out of it
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	host := discovery.Hostname(issuer.URL().Host)
	for _, document := range slices.Sorted(maps.Keys(documents)) {
		name := path.Join(host, document)
		changed, err := replaceFile(root, name, documents[document])
		if err != nil {
			return written, unchanged, err
		}
		if name = path.Join(dir, name); changed {
			written = append(written, name)
		} else {
			unchanged = append(unchanged, name)
		}
	}
	return written, unchanged, nil
}

// replaceFile makes data the content of name in one step, unless it is already.
func replaceFile(root *os.Root, name string, data []byte) (changed bool, err error) {
	temporary := name + ".new"
	// An earlier run that was killed may have left one.
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	old, err := root.ReadFile(name)
	if err == nil && bytes.Equal(old, data) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return false, err
	}
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		return false, errors.Join(err, root.Remove(temporary))
	}
	return true, nil
}
