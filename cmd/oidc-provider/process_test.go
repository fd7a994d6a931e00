package main

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is this program, running.
type process struct {
	t                    testing.TB
	cmd                  *exec.Cmd
	dir, addr, adminAddr string
	issuer               string
	done                 chan error
	as                   *user  // nil for the user of the test
	program              string // what other users can run

	mu  sync.Mutex
	out bytes.Buffer // stdout and stderr
}

// Write collects what any of the processes of a test prints.
func (p *process) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(data)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// command is a run of the program in p's directory: the test binary under
// another name.
func (p *process) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	if p.as != nil {
		p.as.run(cmd, p.program)
	}
	cmd.Args = append([]string{"oidc-provider"}, args...)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = p, p
	return cmd
}

// must runs a command to its end.
func (p *process) must(args ...string) {
	p.t.Helper()
	if err := p.command(args...).Run(); err != nil {
		p.t.Fatalf("%v: %v\n%s", args, err, p.output())
	}
}

// newProcess has a directory and addresses, and does not run yet.
func newProcess(t testing.TB) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "oidc-provider") // shorter than t.TempDir, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &process{t: t, dir: dir}
	for _, addr := range []*string{&p.addr, &p.adminAddr} {
		if *addr, err = freeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// serve starts a server on a new ring and waits until it is ready. policy are
// flags of keys init, extra those of serve.
func serve(t testing.TB, policy []string, extra ...string) *process {
	t.Helper()
	p := newProcess(t)
	p.issuer = "http://" + p.addr
	p.must(append([]string{"keys", "init", "--store", "keys", "--issuer", p.issuer}, policy...)...)
	p.start(extra...)
	return p
}

func (p *process) start(extra ...string) {
	p.t.Helper()
	p.run(append([]string{"serve", "--store", "keys", "--issuer", p.issuer, "--listen", p.addr,
		"--admin-listen", p.adminAddr, "--shutdown-delay", "0s"}, extra...)...)
}

// run starts a server and waits until it is ready.
func (p *process) run(args ...string) {
	p.t.Helper()
	p.launch(args...)
	p.eventually("the server is ready", func() bool { return get("http://"+p.adminAddr+"/readyz") == http.StatusOK })
}

// launch starts a server.
func (p *process) launch(args ...string) {
	p.t.Helper()
	p.cmd = p.command(args...)
	p.begin()
}

// begin starts p.cmd.
func (p *process) begin() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.done = make(chan error, 1)
	go func() { p.done <- p.cmd.Wait() }()
	p.t.Cleanup(func() { p.cmd.Process.Kill() })
}

func (p *process) stop() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.wait()
}

// wait expects the server to end without an error.
func (p *process) wait() {
	p.t.Helper()
	select {
	case err := <-p.done:
		if err != nil {
			p.t.Errorf("the server ended with %v\n%s", err, p.output())
		}
	case <-time.After(patience):
		p.t.Errorf("the server does not stop")
	}
}

func (p *process) eventually(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not within %v: %s\n%s", patience, what, p.output())
		}
	}
}

func (p *process) ring() string { return filepath.Join(p.dir, "keys", "ring.json") }

// get returns the status of a request, or 0.
func get(url string) int {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// mustAnswer is what everything here must survive.
func (p *process) mustAnswer(after string) {
	p.t.Helper()
	for _, url := range []string{"http://" + p.adminAddr + "/livez", p.issuer + "/openid/v1/jwks", "http://" + p.adminAddr + "/readyz"} {
		if code := get(url); code != http.StatusOK {
			p.t.Errorf("%s: %s answers %d", after, url, code)
		}
	}
	if p.t.Failed() {
		p.t.Logf("%.4000s", p.output())
	}
}
