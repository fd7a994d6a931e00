//go:build !windows

package mirror

import (
	"errors"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// replaceFile puts a file of mode 0600 in the place of path, in one step.
func replaceFile(path string, data []byte) error {
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.CloseAtomicallyReplace()
	}
	return errors.Join(err, file.Cleanup())
}
