package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"oidc-provider/rotation"
)

// Files in the directory of a [File] store.
const (
	ringFile = "ring.json"
	newFile  = "ring.json.new" // what a writer has not finished yet
	lockFile = "ring.lock"
)

// maxRing bounds what is read. A ring grows by about 2 KiB a key, and 45 bytes
// stay of each that is gone.
const maxRing = 64 << 20

// A File store is a directory of mode 0700 with the ring in a file of mode
// 0600. Writers exclude each other with a lock and replace the file in one
// step, so that readers, who need no lock, see one state or the other whatever
// happens. It works for all processes of a machine; whether it does over a
// network file system depends on that system's flock.
type File struct{ dir string }

// NewFile is the store in dir, which the first Swap makes if it is not there.
func NewFile(dir string) *File { return &File{dir: dir} }

// Load implements [rotation.Store]. The version is a hash of the content.
func (f *File) Load(ctx context.Context) ([]byte, rotation.Version, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	return f.read()
}

func (f *File) read() ([]byte, rotation.Version, error) {
	if err := f.checkDir(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, "", nil
		}
		return nil, "", err
	}
	path := filepath.Join(f.dir, ringFile)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", nil
	case err != nil:
		return nil, "", err
	case !info.Mode().IsRegular():
		return nil, "", fmt.Errorf("%s is not a regular file", path) // opening it could take for ever
	}
	if err := checkMode(info, path, "600"); err != nil {
		return nil, "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxRing+1))
	if err != nil {
		return nil, "", err
	}
	if len(data) > maxRing {
		return nil, "", fmt.Errorf("%s is larger than %d MiB: that is no ring", path, maxRing>>20)
	}
	return data, versionOf(data), nil
}

func (f *File) checkDir() error {
	info, err := os.Stat(f.dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory (hint: --store names the directory that holds %s)", f.dir, ringFile)
	}
	return checkMode(info, f.dir, "700")
}

// checkMode refuses what others than the owner may read or write.
func checkMode(info fs.FileInfo, path, want string) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so that others could reach the private keys (hint: run `chmod %s %s`)", path, mode, want, path)
	}
	return nil
}

// Swap implements [rotation.Store].
func (f *File) Swap(ctx context.Context, data []byte, old rotation.Version) error {
	if len(data) > maxRing {
		return fmt.Errorf("%d bytes are no ring, and were not written: Load takes %d MiB", len(data), maxRing>>20)
	}
	if old == "" {
		if err := f.makeDir(); err != nil {
			return err
		}
	}
	switch err := f.checkDir(); {
	case errors.Is(err, fs.ErrNotExist):
		return rotation.ErrConflict // the store is empty, and old is not
	case err != nil:
		return err
	}
	lock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()

	switch _, current, err := f.read(); {
	case err != nil:
		return err
	case current != old:
		return rotation.ErrConflict
	}
	return f.replace(data)
}

func (f *File) makeDir() error {
	if _, err := os.Stat(f.dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.dir))
}

// lockTimeout is far more than any writer holds the lock that is not stopped.
const lockTimeout = 10 * time.Second

func (f *File) lock(parent context.Context) (*flock.Flock, error) {
	ctx, cancel := context.WithTimeout(parent, lockTimeout)
	defer cancel()
	path := filepath.Join(f.dir, lockFile)
	if err := f.makeLockFile(path); err != nil {
		return nil, err
	}
	lock := flock.New(path, flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		if errors.Is(err, context.DeadlineExceeded) && parent.Err() == nil {
			return nil, fmt.Errorf("another process holds %s (hint: `fuser %s` tells which)", lock.Path(), lock.Path())
		}
		return nil, fmt.Errorf("locking %s: %w", lock.Path(), err)
	}
	return lock, nil
}

// makeLockFile makes the lock file if it is not there, and refuses anything
// else under its name, like a link to somewhere else.
func (f *File) makeLockFile(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return errors.Join(giveToOwner(file, f.dir), file.Close())
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	return err
}

// replace writes data beside the ring and puts it in its place. The directory
// is synced as well: the new name must survive a power failure before anybody
// acts on it.
func (f *File) replace(data []byte) error {
	path := filepath.Join(f.dir, newFile)
	err := writeSynced(path, f.dir, data)
	if err == nil {
		err = os.Rename(path, filepath.Join(f.dir, ringFile))
	}
	if err != nil {
		os.Remove(path) // best effort: the next writer removes it as well
		return err
	}
	return syncDir(f.dir)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeSynced(path, dir string, data []byte) error {
	// A file left by a writer that died may have another owner or mode.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = giveToOwner(file, dir)
	if err == nil {
		_, err = file.Write(data)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
