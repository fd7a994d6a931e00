package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"oidc-provider/internal/filemode"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
	"oidc-provider/rotation"
)

// Files in the directory of a [File] store.
const (
	ringFile = "ring.json"
	newFile  = "ring.json.new" // an unfinished write
	lockFile = "ring.lock"
)

// maxRing is the largest ring that is read or written, in bytes. A key adds about
// 2 KiB, and a removed key leaves 45 bytes.
const maxRing = 64 << 20

// A File store is a directory of mode 0700 with the ring in a file of mode 0600.
// Writers exclude each other with a lock and replace the file in one step, so that
// readers need no lock and always see a complete ring. All processes of a machine
// can share it. Over a network file system, this depends on the flock of that
// system. The directory must belong to the user of this process or to root, unless
// this process is root: see [CheckOwner].
//
// The calls of a File end with their context, also while its file system hangs.
type File struct {
	dir                  string
	reads, writes, locks slot
}

// NewFile returns the store in dir. The first Swap creates dir if needed.
func NewFile(dir string) *File {
	return &File{dir: dir, reads: newSlot(), writes: newSlot(), locks: newSlot()}
}

// String returns the directory.
func (f *File) String() string { return f.dir }

// Load implements [rotation.Store]. The version is a hash of the document.
func (f *File) Load(ctx context.Context) ([]byte, rotation.Version, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	// A read that is left behind still writes these, so no result may be one of them.
	var data []byte
	var v rotation.Version
	err := f.reads.run(ctx, func() (err error) {
		data, v, err = f.read()
		return err
	}, func() {})
	if err != nil {
		return nil, "", f.explain(ctx, err)
	}
	return data, v, nil
}

// explain returns err, with the reason if it is that of a file system that hangs.
func (f *File) explain(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return fmt.Errorf("%w: the file system of %s does not answer: %w", rotation.ErrUnavailable, f.dir, err)
	}
	return err
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
		return nil, "", fmt.Errorf("%s is not a regular file", path) // opening a pipe could block
	}
	if err := checkMode(info, path, "600"); err != nil {
		return nil, "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	data, err := input.ReadAtMost(file, maxRing)
	if errors.Is(err, input.ErrTooLarge) {
		return nil, "", fmt.Errorf("%s is not a ring: %w", path, err)
	} else if err != nil {
		return nil, "", err
	}
	return data, versionOf(data), nil
}

func (f *File) checkDir() error {
	info, err := os.Stat(f.dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return hint.Errorf("set {store} to the directory that contains "+ringFile, "%s is not a directory", f.dir)
	}
	if err := checkMode(info, f.dir, "700"); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		return nil // an operator's command works on the ring of a server, which is another user
	}
	return filemode.CheckOwner(info, f.dir)
}

// checkMode refuses a file or directory that users other than its owner can read
// or write.
func checkMode(info fs.FileInfo, path, want string) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return hint.Errorf(filemode.Hint(info, path, want),
			"%s has mode %04o, which gives other users access to the private keys", path, mode)
	}
	return nil
}

// Swap implements [rotation.Store].
func (f *File) Swap(ctx context.Context, data []byte, old rotation.Version) error {
	if len(data) > maxRing {
		return fmt.Errorf("writing to %s: %d bytes are more than the %d MiB of a ring; nothing was written",
			f.dir, len(data), maxRing>>20)
	}
	return f.explain(ctx, f.writes.run(ctx, func() error { return f.swap(ctx, data, old) }, func() {}))
}

func (f *File) swap(ctx context.Context, data []byte, old rotation.Version) error {
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

// lockTimeout is longer than a running writer holds the lock. A server does not
// read the ring meanwhile, so it must be short; it tries again later.
const lockTimeout = time.Second

func (f *File) lock(parent context.Context) (*flock.Flock, error) {
	ctx, cancel := context.WithTimeout(parent, lockTimeout)
	defer cancel()
	path := filepath.Join(f.dir, lockFile)
	lock := flock.New(path, flock.SetPermissions(0o600))
	// Over a network, the system call may hang although it should not wait.
	err := f.locks.run(ctx, func() error {
		if err := f.makeLockFile(path); err != nil {
			return err
		}
		_, err := lock.TryLockContext(ctx, 5*time.Millisecond)
		return err
	}, func() { lock.Close() })
	switch {
	case err == nil:
		return lock, nil
	case errors.Is(err, context.DeadlineExceeded) && parent.Err() == nil:
		return nil, hint.Errorf(fmt.Sprintf("`fuser %s` shows which; if there is none, the file system does not answer", path),
			"another process holds the lock %s", path)
	}
	return nil, fmt.Errorf("locking %s: %w", path, err)
}

// makeLockFile creates the lock file if it does not exist, and refuses anything
// with that name that is not a regular file, such as a link.
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

// replace writes data to a new file and renames it to the ring. It also syncs the
// directory: the rename must survive a power failure before anything relies on it.
func (f *File) replace(data []byte) error {
	path := filepath.Join(f.dir, newFile)
	err := writeSynced(path, f.dir, data)
	if err == nil {
		err = os.Rename(path, filepath.Join(f.dir, ringFile))
	}
	if err != nil {
		os.Remove(path) // best effort: the next writer tries again
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
	// A file that a crashed writer left may have another owner or mode.
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
