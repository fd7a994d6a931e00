package mirror

import "github.com/google/renameio/v2/maybe"

// replaceFile replaces the file at path, which takes more than one step on Windows.
func replaceFile(path string, data []byte) error {
	return maybe.WriteFile(path, data, 0o600)
}
