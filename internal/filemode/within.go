package filemode

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"oidc-provider/internal/input"
)

// A Boundary is a set of directories that file names must stay in, after all links
// have been followed. It follows the links of each directory once, so it is for the
// names in one file, and not for later.
type Boundary struct {
	base  string // of relative names
	roots []string

	mu   sync.Mutex        // a call that hangs may end late
	real map[string]string // directories without links
}

// NewBoundary returns a boundary of these directories and all below them.
func NewBoundary(roots []string) (*Boundary, error) {
	base, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	b := &Boundary{base: base, real: make(map[string]string)}
	for _, root := range roots {
		b.roots = append(b.roots, b.absolute(root))
	}
	return b, nil
}

func (b *Boundary) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(b.base, path)
}

// Contains reports whether path is within the boundary. The path need not exist, but
// a link must lead to something. The error wraps [input.ErrHangs] if a file system
// does not answer.
func (b *Boundary) Contains(path string) (bool, error) {
	if climbs(path) {
		return false, nil
	}
	path = b.absolute(path)
	return input.Bounded(path, func() (bool, error) { return b.contains(path), nil })
}

// climbs reports whether path goes up again after it went down. The kernel follows a
// link there first, and [filepath.Clean] does not.
func climbs(path string) bool {
	down := false
	for name := range strings.SplitSeq(path, string(filepath.Separator)) {
		if name == ".." && down {
			return true
		}
		down = down || name != ".." && name != "." && name != ""
	}
	return false
}

func (b *Boundary) contains(path string) bool {
	real, ok := b.follow(path)
	if !ok {
		return false
	}
	for _, root := range b.roots {
		if root, ok := b.directory(root); ok && (real == root || strings.HasPrefix(real, strings.TrimSuffix(root, "/")+"/")) {
			return true
		}
	}
	return false
}

// directory is follow for a path that others are below.
func (b *Boundary) directory(path string) (string, bool) {
	b.mu.Lock()
	real, known := b.real[path]
	b.mu.Unlock()
	if known {
		return real, real != ""
	}
	real, ok := b.follow(path)
	b.mu.Lock()
	b.real[path] = real
	b.mu.Unlock()
	return real, ok
}

// follow returns path without links. Of a path that does not exist, it follows the
// part that does.
func (b *Boundary) follow(path string) (string, bool) {
	parent := filepath.Dir(path)
	if parent == path {
		return path, true
	}
	real, ok := b.directory(parent)
	if !ok {
		return "", false
	}
	switch _, err := os.Readlink(path); {
	case err == nil:
		real, err := filepath.EvalSymlinks(path)
		return real, err == nil // a link that leads nowhere yet
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EINVAL): // it exists, and is not a link
		return "", false
	}
	return filepath.Join(real, filepath.Base(path)), true
}
