package signer

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/user"
	"slices"
	"strconv"

	"oidc-provider/internal/hint"
)

// Access says who may use a signer socket. The zero value admits the user of this
// process and root.
type Access struct {
	// Mode is the mode of the socket file, in octal. Default 0600.
	Mode string

	// Group is the group of the socket file: a name or a number. Default that of
	// other new files.
	Group string

	// UIDs are users, beside that of this process and root, whose connections
	// are accepted. Needs Linux.
	UIDs []uint
}

const defaultMode = 0o600

// Check returns an error if a is not valid for a socket at path. It does not look
// up the group.
func (a Access) Check(path string) error {
	if abstract(path) && (a.Mode != "" || a.Group != "") {
		return hint.Errorf("set {signerSocket} to a path, or remove {signerSocketMode} and {signerSocketGroup}",
			"signer socket %s: an abstract socket has neither a mode nor a group", path)
	}
	if path == "" && (a.Mode != "" || a.Group != "" || len(a.UIDs) > 0) {
		return hint.Errorf("set {signerSocket}", "access to a signer socket is set, and there is none")
	}
	for _, uid := range a.UIDs {
		if uid >= math.MaxUint32 { // the last number means no user
			return hint.Errorf("set {signerUIDs} to what `id -u` prints for these users", "%d is not a user", uid)
		}
	}
	if len(a.UIDs) > 0 && !peersKnown {
		return hint.Errorf("remove {signerUIDs}", "users of a signer socket: this system does not say who connects")
	}
	_, err := a.mode()
	return err
}

func (a Access) mode() (uint32, error) {
	if a.Mode == "" {
		return defaultMode, nil
	}
	mode, err := strconv.ParseUint(a.Mode, 8, 32)
	switch {
	case err != nil || mode > 0o777 || mode&defaultMode != defaultMode:
		return 0, hint.Errorf("set {signerSocketMode} to a mode such as 0660", "mode %q of the signer socket: want 0600 to 0777",
			a.Mode)
	case mode&0o007 != 0 && !peersKnown:
		return 0, hint.Errorf("set {signerSocketMode} to 0660 and {signerSocketGroup} to a group",
			"mode %q of the signer socket: every user could have tokens signed", a.Mode)
	}
	return uint32(mode), nil
}

// gid returns the number of the group, -1 if none is set.
func (a Access) gid() (int, error) {
	if a.Group == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(a.Group, 10, 32); err == nil && gid < math.MaxUint32 {
		return int(gid), nil
	}
	group, err := user.LookupGroup(a.Group)
	if err != nil {
		return 0, hint.Errorf("set {signerSocketGroup} to a group of this machine, or to its number",
			"group of the signer socket: %w", err)
	}
	return strconv.Atoi(group.Gid)
}

// admits reports whether a process of the user uid may connect.
func (a Access) admits(uid uint32) bool {
	return uid == 0 || int64(uid) == int64(os.Geteuid()) || slices.Contains(a.UIDs, uint(uid))
}

// warn logs what is allowed and probably not meant.
func (a Access) warn(path string, log *slog.Logger) {
	mode, _ := a.mode()
	switch {
	case abstract(path):
		log.Warn("an abstract socket has no mode, and any process in this network namespace can be the first to use its "+
			"name: only the users of the processes that connect are checked", "socket", path, "admitted", a.String())
	case len(a.UIDs) > 0 && mode&0o077 == 0:
		log.Warn("the mode of the signer socket lets only its owner connect, whatever other users are admitted",
			"socket", path, "admitted", a.String(), "hint", "0660 and a group, or 0666, lets others connect")
	}
}

// String names the users who may connect.
func (a Access) String() string {
	users := []string{"0"}
	if own := os.Geteuid(); own != 0 {
		users = append(users, strconv.Itoa(own))
	}
	for _, uid := range a.UIDs {
		users = append(users, strconv.FormatUint(uint64(uid), 10))
	}
	return fmt.Sprint(users)
}
