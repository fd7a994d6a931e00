package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"oidc-provider/internal/hint"
)

// Listen opens the Unix socket at path with mode 0600, or the abstract socket
// "@name" of Linux, which has no mode: every process in the network namespace
// can reach it. A socket file on which no process listens is removed. A socket
// that is in use, and a file of another kind, is an error.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	switch {
	case path == "@":
		return nil, hint.Errorf("set {signerSocket} to a name such as @oidc-provider",
			"signer socket @: an abstract socket needs a name")
	case !strings.HasPrefix(path, "@"):
		if err := removeStale(ctx, path); err != nil {
			return nil, fmt.Errorf("signer socket %s: %w", path, err)
		}
	}
	lc := net.ListenConfig{Control: restrictMode}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, hint.Errorf("set {signerSocket} to a path of at most 107 bytes in an existing directory",
			"signer socket: %w", err)
	}
	if !strings.HasPrefix(path, "@") {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, errors.Join(fmt.Errorf("signer socket: %w", err), l.Close())
		}
	}
	return l, nil
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
		return os.Remove(path)
	}
	return fmt.Errorf("cannot find out whether a process listens on it: %w", err)
}
