package filemode

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"oidc-provider/internal/input"
)

// Within reports whether path is one of the directories roots, or below one, after
// all links have been followed. The path need not exist, but a link must lead to
// something. The error wraps [input.ErrHangs] if a file system does not answer.
func Within(path string, roots []string) (bool, error) {
	return input.Bounded(path, func() (bool, error) { return within(path, roots), nil })
}

func within(path string, roots []string) bool {
	real, ok := follow(path)
	if !ok {
		return false
	}
	for _, root := range roots {
		root, ok := follow(root)
		if !ok {
			continue
		}
		rel, err := filepath.Rel(root, real)
		if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

// follow returns path without links. Of a path that does not exist, it follows the
// part that does.
func follow(path string) (string, bool) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	missing := ""
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(real, missing), true
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return "", false // a link that leads nowhere yet
		}
		if path == filepath.Dir(path) {
			return "", false
		}
		missing = filepath.Join(filepath.Base(path), missing)
		path = filepath.Dir(path)
	}
}
