package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// What a small container has.
const (
	smallMemory = 128 << 20
	smallFiles  = 1024
)

// signLimit is how long a Sign may take, regardless of what clients do.
const signLimit = time.Second

// TestFloods lets clients do their worst to the public address of a server with
// little memory and few file descriptors.
func TestFloods(t *testing.T) {
	if testing.Short() {
		t.Skip("opens thousands of connections")
	}
	program := buildProgram(t)
	for name := range floodKinds {
		t.Run(name, func(t *testing.T) {
			connections := 800 // three times as many as are allowed
			if name == "idle after the handshake" {
				connections = 4000
			}
			var slowest time.Duration
			for range 3 { // other programs may keep this machine busy for a moment
				p := smallServer(t, program)
				slowest = p.flood(name, connections)
				p.stop()
				if slowest <= signLimit || t.Failed() {
					break
				}
			}
			if slowest > signLimit {
				t.Errorf("the slowest Sign took %v", slowest)
			}
		})
	}
}

// buildProgram returns the path of the program as it is released. The test binary
// is larger, and with the race detector it needs many times the memory.
func buildProgram(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "oidc-provider") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "oidc-provider")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

// smallServer runs program as in a small container, as a user without privileges.
func smallServer(t *testing.T, program string) *process {
	t.Helper()
	p := newProcess(t)
	p.issuer = "https://" + p.addr
	p.must("keys", "init", "--store", "keys", "--issuer", p.issuer, "--algorithm", "ES256")
	if err := makeCertificate(filepath.Join(p.dir, "tls.crt"), filepath.Join(p.dir, "tls.key")); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`ulimit -d %d && ulimit -n %d && exec "$0" "$@"`, smallMemory>>10, smallFiles)
	p.cmd = exec.Command("/bin/sh", "-c", script, program, "serve", "--store", "keys", "--issuer", p.issuer,
		"--listen", p.addr, "--admin-listen", p.adminAddr, "--signer-socket", "s.sock", "--tls-cert", "tls.crt",
		"--tls-key", "tls.key", "--shutdown-delay", "0s", "--witness", "none")
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, p, p
	p.asNobody()
	p.begin()
	p.eventually("the server is ready", func() bool { return get("http://"+p.adminAddr+"/readyz") == http.StatusOK })
	return p
}

// nobody is a user without privileges.
const nobody = 65534

// asNobody makes the command of p run as a user without privileges, who owns the
// directory of p, if this test may do that.
func (p *process) asNobody() {
	p.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	err := filepath.Walk(p.dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// flood starts a flood from a process of its own, and expects that the signer and
// the documents survive it. It returns how long the slowest Sign took.
func (p *process) flood(kind string, connections int) (slowest time.Duration) {
	p.t.Helper()
	flood := exec.Command(os.Args[0], kind, p.addr, strconv.Itoa(connections))
	flood.Args[0] = "flood"
	flood.Stderr = p
	in, err := flood.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := flood.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := flood.Start(); err != nil {
		p.t.Fatal(err)
	}
	opened := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		opened <- line
	}()
	signs := func() {
		begin := time.Now()
		if err := p.signsFor("s.sock", p.issuer); err != nil {
			p.t.Errorf("Sign during the flood: %v", err)
		}
		slowest = max(slowest, time.Since(begin))
	}
	begin, line := time.Now(), ""
	for line == "" && !p.t.Failed() {
		signs()
		select {
		case line = <-opened:
		case <-time.After(20 * time.Millisecond):
		}
	}
	took := time.Since(begin)
	for range 10 {
		signs()
		time.Sleep(50 * time.Millisecond)
	}
	p.eventually("the key set is served", func() bool { return getTLS(p.issuer+"/openid/v1/jwks") == http.StatusOK })
	if code := get("http://" + p.adminAddr + "/livez"); code != http.StatusOK {
		p.t.Errorf("/livez answers %d", code)
	}
	p.t.Logf("%s in %v; slowest Sign %v; %s", line[:max(len(line)-1, 0)], took, slowest, p.memory())
	in.Close()
	if err := flood.Wait(); err != nil {
		p.t.Errorf("flood: %v", err)
	}
	return slowest
}

var peakMemory = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// memory returns how much memory the server has had at most, which must be less
// than the small container has.
func (p *process) memory() string {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	m := peakMemory.FindSubmatch(status)
	if err != nil || m == nil {
		p.t.Fatalf("%v\n%s", err, status)
	}
	kib, _ := strconv.Atoi(string(m[1]))
	if kib<<10 > smallMemory*3/4 {
		p.t.Errorf("the server had %d MiB resident", kib>>10)
	}
	return fmt.Sprintf("%d MiB resident at most", kib>>10)
}

// getTLS returns the status of a request to a server with any certificate, or 0.
func getTLS(url string) int {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext:     (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 99)}}).DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
