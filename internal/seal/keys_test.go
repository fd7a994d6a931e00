package seal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/seal"
)

func TestIdentityFiles(t *testing.T) {
	a, pq := classic(t), postQuantum(t)
	for _, tt := range []struct{ name, content, want string }{
		{"empty", "", "contains no identity"},
		{"comments alone", "# created: today\n\n", "contains no identity"},
		{"a recipient", a.recipient, "line 1"},
		{"a typo", "#\n\n" + a.secret[:len(a.secret)-1] + "B\n", "line 3"},
		{"a typo in the prefix", "AGE-SECRET-KEY-2" + a.secret[16:], "line 1"},
		{"two on a line", a.secret + " " + pq.secret, "line 1"},
		{"one good, one bad", a.secret + "\n" + pq.secret[20:], "line 2"},
		{"with a passphrase", "age-encryption.org/v1\n-> scrypt bBjlhJVYZeE4aqUdmtRHfw 15\n", "age -d"},
		{"armored", "-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVuY3J5cHRpb24=\n", "passphrase"},
		{"ssh", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "SSH"},
		{"age plugin", "AGE-PLUGIN-YUBIKEY-1QQPQQQQQQQQQQQQQQ\n", "age plugins"},
		{"endless", strings.Repeat("#", 64<<10) + a.secret, "more than 64 KiB"},
	} {
		path := writeFile(t, tt.content, 0o600)
		_, err := seal.New(seal.Config{IdentityFiles: []string{a.file, path}})
		wantErr(t, err, damaged, path, tt.want)
		if err != nil {
			wantNoSecret(t, hint.Text(err, hint.Field), a, pq)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	_, err := seal.New(seal.Config{IdentityFiles: []string{missing}})
	wantErr(t, err, damaged, missing, "age-keygen")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no ErrNotExist in %v", err)
	}
	_, err = seal.New(seal.Config{IdentityFiles: []string{t.TempDir()}})
	wantErr(t, err, damaged, "directory")

	windows := writeFile(t, "# made elsewhere\r\n"+a.secret+"\r\n\r\n  "+pq.secret+"\r\n", 0o600)
	s := with(t, identity{file: windows})
	wantPlain(t, s, mustSeal(t, s, []byte("x"), a.recipient), []byte("x"))
	wantPlain(t, s, mustSeal(t, s, []byte("x"), pq.recipient), []byte("x"))
}

func TestIdentityFileModes(t *testing.T) {
	a := classic(t)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o610, 0o644, 0o440, 0o666} {
		path := writeFile(t, a.secret, mode)
		_, err := seal.New(seal.Config{IdentityFiles: []string{path}})
		wantErr(t, err, damaged, fmt.Sprintf("%04o", mode), "chmod 600 "+path)
	}
	if os.Geteuid() != 0 {
		t.Log("not testing files of another user: only root can create them")
		return
	}
	for mode, good := range map[os.FileMode]bool{0o440: true, 0o640: true, 0o444: false, 0o460: false, 0o404: false} {
		path := writeFile(t, a.secret, mode)
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.New(seal.Config{IdentityFiles: []string{path}}); (err == nil) != good {
			t.Errorf("another user's file of mode %04o: %v", mode, err)
		}
	}
}

// A shell passes a decrypted identity through a pipe.
func TestIdentityFromPipe(t *testing.T) {
	a := classic(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString(a.secret); err != nil {
		t.Fatal(err)
	}
	w.Close()
	path := fmt.Sprintf("/dev/fd/%d", r.Fd())
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no /dev/fd: %v", err)
	}
	s := open(t, seal.Config{IdentityFiles: []string{path}})
	wantPlain(t, s, mustSeal(t, s, []byte("x"), a.recipient), []byte("x"))
}
