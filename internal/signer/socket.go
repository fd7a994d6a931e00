package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"oidc-provider/internal/filemode"
	"oidc-provider/internal/hint"
)

// lockTimeout is much longer than another process needs to open the socket.
const lockTimeout = 5 * time.Second

func abstract(path string) bool { return strings.HasPrefix(path, "@") }

// Listen opens the Unix socket at path, or the abstract socket "@name" of Linux,
// for the users that access admits. Other connections are closed, and reported in
// log.
//
// No other user may be able to write to the directory of the socket. A socket file
// on which no process listens is removed. A socket that is in use, and a file of
// another kind, is an error. Processes that open the socket at the same time
// exclude each other with a lock file beside it, which stays there.
func Listen(ctx context.Context, path string, access Access, log *slog.Logger) (*Listener, error) {
	if path == "@" {
		return nil, hint.Errorf("set {signerSocket} to a name such as @oidc-provider",
			"signer socket @: an abstract socket needs a name")
	}
	if err := access.Check(path); err != nil {
		return nil, err
	}
	if !abstract(path) {
		unlock, err := prepare(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("signer socket %s: %w", path, err)
		}
		defer unlock()
	}
	lc := net.ListenConfig{Control: restrictMode}
	l, err := lc.Listen(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrPermission) && !abstract(path):
		return nil, hint.Errorf(filemode.Denied(filepath.Dir(path)), "signer socket: %w", err)
	case err != nil:
		return nil, hint.Errorf("set {signerSocket} to a path of at most 107 bytes in an existing directory",
			"signer socket: %w", err)
	}
	listener := &Listener{UnixListener: l.(*net.UnixListener), path: path, refusals: newRepeats(), log: log}
	if err := listener.Admit(access); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return listener, nil
}

// prepare makes the path free. The caller must call unlock when the socket is open.
func prepare(ctx context.Context, path string) (unlock func(), err error) {
	const existing = "set {signerSocket} to a path in an existing directory"
	switch err := filemode.CheckDir(filepath.Dir(path)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.Wrap(err, existing)
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Wrap(err, filemode.Denied(filepath.Dir(path)))
	case err != nil:
		return nil, hint.Wrap(err, "or set {signerSocket} to a path in a directory of its own")
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, hint.Errorf(fmt.Sprintf("`fuser %s.lock` shows which", path), "another process is opening it")
		}
		err = fmt.Errorf("locking it: %w", err)
		if errors.Is(err, fs.ErrPermission) {
			return nil, hint.Wrap(err, filemode.DeniedFile(path+".lock"))
		}
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		lock.Close()
		return nil, err
	}
	return func() { lock.Close() }, nil
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return hint.Errorf("set {signerSocket} to another path", "the file is not a socket, and was not changed")
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return hint.Errorf("stop it if it is another oidc-provider, or set {signerSocket} to another path",
			"another process listens on it")
	case errors.Is(err, syscall.ECONNREFUSED):
		err := os.Remove(path)
		if errors.Is(err, fs.ErrPermission) {
			return hint.Wrap(err, filemode.Denied(filepath.Dir(path)))
		}
		return err
	}
	return fmt.Errorf("cannot find out whether a process listens on it: %w", err)
}
