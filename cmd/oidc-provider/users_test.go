package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"oidc-provider/internal/signer"
)

// A user is one that the program runs as. Only root can start processes of others.
type user struct {
	uid, gid uint32
	groups   []uint32
}

// Users without a name, beside that of the test.
var (
	owner    = &user{uid: 20001, gid: 20001, groups: []uint32{20009}}
	stranger = &user{uid: 20002, gid: 20009}
)

// run makes cmd, which was to run the test binary, run program as u.
func (u *user) run(cmd *exec.Cmd, program string) {
	cmd.Path = program
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: u.groups}}
}

// publicProgram puts the test binary where every user can run it.
func (p *process) publicProgram() string {
	p.t.Helper()
	path := filepath.Join(p.dir, "oidc-provider")
	if os.Link(os.Args[0], path) == nil {
		return path
	}
	data, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(path, data, 0o755)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return path
}

// ownProcess returns a process in a directory that it owns, and that others may
// enter: of an unprivileged user, which is another one if the test is root.
func ownProcess(t *testing.T) *process {
	t.Helper()
	p := newProcess(t)
	p.issuer = "http://" + p.addr
	if err := os.Chmod(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.program = p.publicProgram()
	if os.Geteuid() == 0 {
		p.as = owner
		p.give(p.dir, owner)
	}
	return p
}

func (p *process) give(path string, u *user) {
	p.t.Helper()
	if err := os.Lchown(path, int(u.uid), int(u.gid)); err != nil {
		p.t.Fatal(err)
	}
}

// shell is a command of the user that p runs as.
func (p *process) shell(command string) *exec.Cmd {
	sh := exec.Command("/bin/sh", "-c", command)
	sh.Dir = p.dir
	if p.as != nil {
		p.as.run(sh, sh.Path)
	}
	return sh
}

// askSignerMain prints how many keys the signer at a socket returns.
func askSignerMain() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, answer, err := signer.Ask(ctx, os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(len(answer.GetKeys()), "keys")
}

// asks reports whether the signer of p answers a client of the user u.
func (p *process) asks(u *user, socket string) (answered bool, output string) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Dir = p.dir
	if u != nil {
		u.run(cmd, p.program)
	}
	cmd.Args = []string{"ask-signer", socket}
	out, err := cmd.CombinedOutput()
	return err == nil, string(out)
}

func TestSignerSocketUsers(t *testing.T) {
	name := fmt.Sprintf("@signer-%d", os.Getpid())
	uid := fmt.Sprint(stranger.uid)
	for _, tt := range []struct {
		name, socket  string
		flags         []string
		answers, logs bool // a stranger is answered; else the log says so, unless the mode keeps it out
		asRoot        bool
	}{
		{name: "default", socket: "s.sock"},
		{name: "mode 0666", socket: "s.sock", flags: []string{"--signer-socket-mode", "0666"}, logs: true},
		{name: "mode 0666 and uid", socket: "s.sock", flags: []string{"--signer-socket-mode", "666", "--signer-uid", uid}, answers: true},
		{name: "uid of another", socket: "s.sock", flags: []string{"--signer-socket-mode", "0777", "--signer-uid", "20003,1"}, logs: true},
		{name: "uid without mode", socket: "s.sock", flags: []string{"--signer-uid", uid}},
		{name: "group", socket: "s.sock", flags: []string{"--signer-socket-mode", "0660", "--signer-socket-group", "20009"}, logs: true},
		{name: "group and uid", socket: "s.sock",
			flags: []string{"--signer-socket-mode", "0660", "--signer-socket-group", "20009", "--signer-uid", uid}, answers: true},
		{name: "abstract", socket: name, logs: true},
		{name: "abstract and uid", socket: name, flags: []string{"--signer-uid", "1", "--signer-uid", uid}, answers: true},
		{name: "of root", socket: "s.sock", flags: []string{"--signer-socket-mode", "0666"}, logs: true, asRoot: true},
		{name: "of root, abstract and uid", socket: name, flags: []string{"--signer-uid", uid}, answers: true, asRoot: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := ownProcess(t)
			if tt.asRoot || p.as == nil && strings.Contains(tt.name, "group") {
				if os.Geteuid() != 0 {
					t.Skip("needs root: it runs the server as root, or in a group that the user of the test is not in")
				}
				p.as = nil
				p.give(p.dir, &user{})
			}
			p.must("keys", "init", "--store", "keys", "--issuer", p.issuer, "--algorithm", "ES256")
			p.start(append(tt.flags, "--signer-socket", tt.socket)...)
			if ok, out := p.asks(p.as, tt.socket); !ok {
				t.Errorf("its own user gets %s", out)
			}
			if ok, out := p.asks(nil, tt.socket); !ok {
				t.Errorf("the user of the test gets %s", out)
			}
			if abstract := strings.HasPrefix(tt.socket, "@"); abstract != strings.Contains(p.output(), "an abstract socket has no mode") {
				t.Errorf("abstract %v, and the log is\n%s", abstract, p.output())
			}
			if os.Geteuid() != 0 {
				return // the rest takes a second user
			}
			if ok, out := p.asks(stranger, tt.socket); ok != tt.answers {
				t.Errorf("a stranger gets %s", out)
			}
			const refusal = "user 20002 is not admitted"
			if tt.logs {
				p.eventually(refusal, func() bool { return strings.Contains(p.output(), refusal) })
			}
			p.stop()
			if !tt.logs && strings.Contains(p.output(), refusal) {
				t.Errorf("the log has %q:\n%s", refusal, p.output())
			}
		})
	}
}

// TestSignerSocketAccessReloads changes who may connect while the server runs.
func TestSignerSocketAccessReloads(t *testing.T) {
	p := ownProcess(t)
	socket := fmt.Sprintf("@reload-%d", os.Getpid())
	write := func(more string) {
		text := fmt.Sprintf("listen: %s\nadminListen: %s\nshutdownDelay: 0s\nissuers:\n- issuer: %s\n"+
			"  managed: {store: ring, create: true, witnesses: [none], policy: {algorithm: ES256}, signerSocket: %q%s}\n",
			p.addr, p.adminAddr, p.issuer, socket, more)
		if err := os.WriteFile(filepath.Join(p.dir, "config.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	p.run("serve", "--config", "config.yaml")
	if !strings.Contains(p.output(), "an abstract socket has no mode") {
		t.Errorf("no warning about an abstract socket in\n%s", p.output())
	}
	write(", signerUIDs: [20002]")
	if os.Geteuid() == 0 {
		p.eventually("the stranger is admitted", func() bool { ok, _ := p.asks(stranger, socket); return ok })
		write(", signerUIDs: [1]")
		p.eventually("the stranger is refused", func() bool { ok, _ := p.asks(stranger, socket); return !ok })
	}
	write(", signerUIDs: [1], signerSocketMode: 0660")
	p.eventually("a mode is refused", func() bool {
		return strings.Contains(p.output(), "an abstract socket has neither a mode nor a group")
	})
	p.stop()
}

// TestDirectoriesOfOthers starts servers whose files other users could replace.
func TestDirectoriesOfOthers(t *testing.T) {
	flags := []string{"--signer-socket", "run/s.sock", "--rollback-state", "seen"}
	for _, tt := range []struct {
		name, dir string
		mode      os.FileMode
		of        *user // root if not given and the test is root
		server    *user
		want      string // "" if the server starts
	}{
		{"all are mine", "", 0, nil, owner, ""},
		{"socket, group may write", "run", 0o775, owner, owner, "run has mode 0775, which lets other users write to it"},
		{"socket, all may write", "run", 0o777, owner, owner, "set {signerSocket} to a path in a directory of its own"},
		{"socket, sticky", "run", 0o777 | os.ModeSticky, owner, owner, "run has mode 0777, which lets other users write to it"},
		{"socket, of root, sticky", "run", 0o777 | os.ModeSticky, nil, owner, "run has mode 0777"},
		{"socket, of another", "run", 0o755, stranger, owner, "run belongs to user 20002, and this process is user 20001"},
		{"socket, of another, server is root", "run", 0o755, stranger, nil, "run belongs to user 20002, and this process is user 0"},
		{"socket, of root", "run", 0o755, nil, owner, "run belongs to user 0 and has mode 0755, and this process is user 20001: run `chown 20001 run`"},
		{"socket, of root, hidden", "run", 0o700, nil, owner, "run belongs to user 0 and has mode 0700"},
		{"socket, not writable", "run", 0o500, owner, owner, "has mode 0500, and this process is user "},
		{"socket, others may read", "run", 0o755, owner, owner, ""},
		{"store, of another", "keys", 0o700, stranger, owner, "keys belongs to user 20002, and this process is user 20001"},
		{"store, of another, server is root", "keys", 0o700, stranger, nil, "keys belongs to user 20002, and this process is user 0"},
		{"store, group may write", "keys", 0o770, owner, owner, "keys has mode 0770, which gives other users access"},
		{"store, volume with fsGroup", "keys", 0o770 | os.ModeSetgid, owner, owner, "fsGroupChangePolicy: OnRootMismatch"},
		{"rollback state, of another", "seen", 0o700, stranger, owner, "seen"},
		{"rollback state, of another, server is root", "seen", 0o700, stranger, nil, "seen belongs to user 20002"},
		{"rollback state, all may write", "seen", 0o707, owner, owner, "seen has mode 0707, which gives other users access"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := os.Geteuid() == 0
			if !root && (tt.server == nil || tt.of != owner && tt.dir != "") {
				t.Skip("needs root: it takes a second user")
			}
			p := ownProcess(t)
			p.must("keys", "init", "--store", "keys", "--issuer", p.issuer, "--algorithm", "ES256")
			for _, dir := range []string{"run", "seen"} {
				if err := os.Mkdir(filepath.Join(p.dir, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if root {
				p.as = tt.server
				for _, dir := range []string{".", "run", "keys", "seen"} {
					of := tt.server
					if dir == tt.dir {
						of = tt.of
					}
					if of == nil {
						of = &user{}
					}
					p.give(filepath.Join(p.dir, dir), of)
				}
			}
			if tt.dir != "" {
				if err := os.Chmod(filepath.Join(p.dir, tt.dir), tt.mode); err != nil {
					t.Fatal(err)
				}
			}
			if tt.want == "" {
				p.start(flags...)
				p.stop()
				return
			}
			err := p.command(append([]string{"serve", "--store", "keys", "--issuer", p.issuer, "--listen", p.addr,
				"--admin-listen", p.adminAddr}, flags...)...).Run()
			want := strings.ReplaceAll(tt.want, "{signerSocket}", "--signer-socket")
			if err == nil || !strings.Contains(p.output(), want) {
				t.Errorf("got %v, want %q in\n%s", err, want, p.output())
			}
		})
	}
}

// The hint for a port that only root may use says what else helps.
func TestPrivilegedPort(t *testing.T) {
	start, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(start)) != "1024" {
		t.Skip("users may listen on any port here")
	}
	p := ownProcess(t)
	err = p.command("serve", "--issuer", p.issuer, "--listen", "127.0.0.1:443", "--admin-listen", p.adminAddr).Run()
	want := "bind: permission denied (hint: user "
	if err == nil || !strings.Contains(p.output(), want) || !strings.Contains(p.output(), "set --listen to a higher one") {
		t.Errorf("got %v, want %q in\n%s", err, want, p.output())
	}
}

// A command that root types works on the store of a server that is another user.
func TestRootWorksOnAnyStore(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	p := ownProcess(t)
	p.must("keys", "init", "--store", "keys", "--issuer", p.issuer, "--algorithm", "ES256")
	p.as = nil
	p.must("keys", "rotate", "--store", "keys", "--force")
	p.as = owner
	p.must("keys", "list", "--store", "keys")
	p.start()
	p.stop()
}

func uidOf(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }
