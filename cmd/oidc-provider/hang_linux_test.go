package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A hazard is a file that no program should touch without care.
type hazard struct {
	name string
	// path is where it is, and what /readyz?verbose must name.
	path string
	// entry is an issuer that needs the file, in the form of an entry of issuers.
	entry string
	// late plants it when the server runs already.
	late bool
}

const (
	needsKeys   = "- {issuer: 'https://oidc.test/x', files: {paths: [%s]}}\n"
	needsCA     = "- {issuer: 'https://oidc.test/x', url: {jwks: 'https://127.0.0.1:1/', caFile: %s}}\n"
	needsConfig = "- {issuer: 'https://oidc.test/x', apiserver: {kubeconfig: %s}}\n"
	needsState  = "- {issuer: 'https://oidc.test/x', url: {jwks: 'https://127.0.0.1:1/'}}\n"
	needsID     = "- {issuer: 'https://oidc.test/x', managed: {store: other, create: true, witnesses: [none], ageIdentities: [%s]}}\n"
	needsSeen   = "- {issuer: 'https://oidc.test/x', managed: {store: other, create: true, witnesses: [none], rollbackState: %s}}\n"
	needsStore  = "- {issuer: 'https://oidc.test/x', managed: {store: %s, create: true, witnesses: [none]}}\n"
)

// stateOf returns the state file of the issuer https://oidc.test/x.
func stateOf(dir string) string {
	sum := sha256.Sum256([]byte("https://oidc.test/x"))
	return filepath.Join(dir, hex.EncodeToString(sum[:16])+".json")
}

// hazards are those that need no privileges to make.
var hazards = []hazard{
	{name: "issuer file", path: "d/x.yaml"},
	{name: "issuer file, later", path: "d/x.yaml", late: true},
	{name: "configuration file, later", path: "config.yaml", late: true},
	{name: "key file", path: "x.pem", entry: needsKeys},
	{name: "key file of a pattern", path: "keys/x.pem", entry: strings.Replace(needsKeys, "%s", "'keys/*'", 1)},
	{name: "CA file", path: "ca.pem", entry: needsCA},
	{name: "kubeconfig", path: "kubeconfig", entry: needsConfig},
	{name: "state file", path: stateOf("oidc-provider-state"), entry: needsState},
	{name: "age identity", path: "identity.txt", entry: needsID},
	{name: "rollback state", path: "seen/ring.json", entry: strings.Replace(needsSeen, "%s", "seen", 1)},
	{name: "ring", path: "ring/ring.json", entry: strings.Replace(needsStore, "%s", "ring", 1)},
}

// Pipes, devices and sockets among the files of a server delay nothing else.
func TestSpecialFiles(t *testing.T) {
	program := buildProgram(t)
	plants := map[string]func(path string) error{
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"device": func(path string) error { return os.Symlink("/dev/zero", path) },
		"socket": func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err == nil {
				l.SetUnlinkOnClose(false)
				l.Close()
			}
			return err
		},
	}
	for kind, plant := range plants {
		for i, h := range hazards {
			if kind != "pipe" && i%3 != 0 { // a pipe is the worst
				continue
			}
			t.Run(kind+"/"+h.name, func(t *testing.T) { h.try(t, program, plant) })
		}
	}
}

// A file system that does not answer delays nothing else.
func TestHungMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a file system that does not answer")
	}
	program := buildProgram(t)
	for _, h := range append(hazards,
		hazard{name: "directory of the rollback state", path: "seen", entry: needsSeen},
		hazard{name: "directory of the ring", path: "ring", entry: needsStore},
		hazard{name: "directory of the state", path: "oidc-provider-state", entry: needsState},
		hazard{name: "directory of keys", path: "keys", entry: strings.Replace(needsKeys, "%s", "'keys/*'", 1)},
	) {
		t.Run(h.name, func(t *testing.T) {
			mount := mountHung(t)
			// Links, since a mount can also be in the middle of a path.
			h.try(t, program, func(path string) error { return os.Symlink(filepath.Join(mount, "file"), path) })
		})
	}
}

// try runs a server with the hazard: others must be served and reloaded, and the
// server must name the file and end in time.
func (h *hazard) try(t *testing.T, program string, plant func(path string) error) {
	t.Parallel()
	p := newProcess(t)
	config := "issuersDir: d\nissuersDirAllow: {roots: [.]}\nissuers:\n" + strings.ReplaceAll(h.entry, "%s", h.path) +
		"- {issuer: 'https://oidc.test/good', files: {paths: [good.pem]}}\n"
	p.write("config.yaml", config)
	p.write("good.pem", testKey(t, "ec-prime256v1-public.pem"))
	p.write("d/other.yaml", "{issuer: 'https://oidc.test/other', files: {paths: [../good.pem]}}")
	put := func() {
		path := filepath.Join(p.dir, h.path)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.RemoveAll(path), plant(path))
		if err != nil {
			t.Fatal(err)
		}
	}
	if !h.late {
		put()
	}
	p.cmd = exec.Command(program, "serve", "--config", "config.yaml")
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, p, p
	p.asNobody()
	p.begin()
	served := func(name string) func() bool {
		return func() bool { return get("http://"+p.addr+"/"+name+"/openid/v1/jwks") == http.StatusOK }
	}
	p.eventually("the issuer of the configuration file is served", served("good"))
	p.eventually("the issuer of another file is served", served("other"))
	if h.late {
		put()
	}
	begin := time.Now()
	p.write("d/new.yaml", "{issuer: 'https://oidc.test/new', files: {paths: [../good.pem]}}")
	os.Lchown(filepath.Join(p.dir, "d/new.yaml"), nobody, nobody)
	p.eventually("a new issuer is served", served("new"))
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a new issuer was served after %v", took)
	}
	report := ""
	p.eventually("/readyz?verbose names the file", func() bool {
		report = fetchBody("http://" + p.adminAddr + "/readyz?verbose")
		return strings.Contains(report, filepath.Base(h.path))
	})
	if code := get("http://" + p.adminAddr + "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz answers %d\n%s", code, report)
	}
	begin = time.Now()
	p.stop()
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("it ended after %v", took)
	}
	if t.Failed() {
		t.Logf("%s\n%s", report, p.output())
	}
}

// mountHung returns a directory below which every call hangs.
func mountHung(t *testing.T) string {
	t.Helper()
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	dir, err := os.MkdirTemp("", "hung")
	if err != nil {
		t.Fatal(err)
	}
	// The kernel asks for the first answer here, and gets none.
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device.Fd())
	if err := syscall.Mount("hung", dir, "fuse", 0, options); err != nil {
		t.Skipf("mounting: %v", err)
	}
	t.Cleanup(func() {
		syscall.Unmount(dir, syscall.MNT_DETACH)
		device.Close() // ends the calls that hang
		os.Remove(dir)
	})
	return dir
}
