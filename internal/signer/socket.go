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
)

// Listen opens the Unix socket at path with mode 0600, or the abstract socket
// "@name" of Linux, which has no mode: everybody in the network namespace
// can reach it. A socket file that nobody listens on any more is removed; one
// that somebody does, and a file of another kind, is an error.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	switch {
	case path == "@":
		return nil, errors.New("signer socket @: an abstract socket needs a name, like @oidc-provider")
	case !strings.HasPrefix(path, "@"):
		if err := removeStale(ctx, path); err != nil {
			return nil, fmt.Errorf("signer socket %s: %w", path, err)
		}
	}
	lc := net.ListenConfig{Control: restrictMode}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("signer socket: %w (hint: its directory must exist, and the path have at most 107 bytes)", err)
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
		return errors.New("there is a file that is not a socket, which was left as it is (hint: name another path)")
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("somebody listens on it already (hint: is another oidc-provider running? stop it, or name another path)")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("is anybody listening? %w", err)
}
