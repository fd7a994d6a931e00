//go:build !windows

package mirror

import (
	"errors"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// replaceFile replaces the file at path in one step. Its mode is 0600.
func replaceFile(path string, data []byte) error {
	file, err := renameio.NewPendingFile(path,
		renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.CloseAtomicallyReplace()
	}
	return errors.Join(err, file.Cleanup())
}
