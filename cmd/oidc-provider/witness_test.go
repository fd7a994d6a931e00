package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/jwks"
)

func TestPeers(t *testing.T) {
	key, err := jwks.Generate(jose.ES256, 0)
	if err != nil {
		t.Fatal(err)
	}
	set, err := jwks.Marshal([]jwks.PublicKey{key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(set) }))
	t.Cleanup(good.Close)
	lost := httptest.NewServer(http.RedirectHandler(good.URL, http.StatusFound))
	t.Cleanup(lost.Close)
	silent := listenSilently(t)

	// One that does not answer does not speak for the others.
	p := witnessFlags{witnesses: []string{"http://" + silent, lost.URL, good.URL}}
	failed := make(map[string]error)
	seen, err := p.ask(t.Context(), "https://oidc.example.com", func(witness string, err error) { failed[witness] = err })
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || seen[0].By != good.URL || len(seen[0].KeyIDs) != 1 || seen[0].KeyIDs[0] != key.KeyID() {
		t.Errorf("got %+v", seen)
	}
	if len(failed) != 2 || failed[lost.URL] == nil || failed["http://"+silent] == nil {
		t.Errorf("failed: %v", failed)
	}
	for _, witness := range []string{"nobody", "ftp://host/jwks", "https://user:hunter2@host/jwks", "https://"} {
		p := witnessFlags{witnesses: []string{witness}}
		if _, err := p.ask(t.Context(), "https://oidc.example.com", nil); err == nil {
			t.Errorf("%s was asked", witness)
		}
	}
	for issuer, want := range map[string]string{"https://oidc.example.com/a": "https://oidc.example.com/a/openid/v1/jwks", "http://localhost": ""} {
		urls, err := (&witnessFlags{}).urls(issuer)
		if err != nil || len(urls) > 1 || len(urls) == 1 != (want != "") || want != "" && urls[0] != want {
			t.Errorf("%s: got %v, %v; want %q", issuer, urls, err, want)
		}
	}
}

// listenSilently returns an address that takes connections and never answers.
func listenSilently(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// A server that waits for its store ends like any other, whatever it is about.
func TestStopWhileWaiting(t *testing.T) {
	p := &process{t: t, dir: t.TempDir()}
	for _, addr := range []*string{&p.addr, &p.adminAddr} {
		var err error
		if *addr, err = freeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	p.cmd = p.command("serve", "--store", "etcd://"+listenSilently(t), "--issuer", "http://"+p.addr, "--listen", p.addr,
		"--admin-listen", p.adminAddr, "--shutdown-delay", "0s")
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	p.done = make(chan error, 1)
	go func() { p.done <- p.cmd.Wait() }()
	p.eventually("it is alive", func() bool { return get("http://"+p.adminAddr+"/livez") == http.StatusOK })
	time.Sleep(100 * time.Millisecond) // in the middle of the first read, which takes seconds
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.wait()
}
