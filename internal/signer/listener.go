package signer

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"

	"oidc-provider/internal/hint"
)

// A Listener accepts the connections of the users that it admits.
type Listener struct {
	*net.UnixListener
	path     string
	access   atomic.Pointer[Access] // nil before the first Admit
	refusals *repeats
	log      *slog.Logger
}

// Admit replaces who may connect. Connections that are open stay open.
func (l *Listener) Admit(access Access) error {
	if err := access.Check(l.path); err != nil {
		return err
	}
	if !abstract(l.path) {
		if err := l.setFile(access); err != nil {
			return hint.Errorf("{signerSocketGroup} must be a group of the user that this process runs as, unless that is root",
				"signer socket %s: %w", l.path, err)
		}
	}
	l.access.Store(&access)
	return nil
}

// setFile gives the socket file its mode and group.
func (l *Listener) setFile(access Access) error {
	before := l.access.Load()
	if before == nil {
		before = new(Access) // as it was opened
		if access.Mode == "" && access.Group == "" && modeIsSet {
			return nil
		}
	}
	mode, err := access.mode()
	if err != nil {
		return err
	}
	gid, err := access.gid()
	if err != nil {
		return err
	}
	if gid < 0 && before.Group != "" {
		gid = os.Getegid()
	}
	return setFile(l.path, mode, gid)
}

// Accept returns the next connection of a user that is admitted.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if l.admits(conn) {
			return conn, nil
		}
		conn.Close()
	}
}

// admits reports whether the process at the other end may connect, by the user
// that it had when it did. The user comes from the kernel.
func (l *Listener) admits(conn *net.UnixConn) bool {
	if !peersKnown {
		return true // the mode of the file decides
	}
	access := l.access.Load()
	uid, pid, err := peer(conn)
	if err == nil && access.admits(uid) {
		return true
	}
	reason := "closed the connection of a user who may not have tokens signed"
	if err != nil {
		reason = "closed a connection, since its user is unknown"
	}
	if suppressed, due := l.refusals.due(reason); due {
		attrs := []any{"socket", l.path, "uid", uid, "pid", pid, "admitted", fmt.Sprint(access)}
		if suppressed > 0 {
			attrs = append(attrs, "suppressed", suppressed)
		}
		if err == nil {
			err = hint.Errorf("add the user to {signerUIDs} if it is that of kube-apiserver", "user %d is not admitted", uid)
		}
		l.log.Warn(reason, append(attrs, "err", err)...)
	}
	return false
}
