package mirror

import "github.com/google/renameio/v2/maybe"

// replaceFile puts a file in the place of path; not in one step here.
func replaceFile(path string, data []byte) error {
	return maybe.WriteFile(path, data, 0o600)
}
