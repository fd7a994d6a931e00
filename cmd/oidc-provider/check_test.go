package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode"
)

const checkedIssuer = "https://oidc.example.test"

// trustedCertificate is one for checkedIssuer by a CA that every process of
// this test trusts.
func trustedCertificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := makeCertificate(certFile, keyFile, "oidc.example.test"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", certFile)
	t.Setenv("SSL_CERT_DIR", dir)
	return certFile, keyFile
}

// connectTo is the flag for a server at a port of this machine.
func connectToPort(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return "--connect-to=oidc.example.test:443:127.0.0.1:" + port
}

// end interrupts a process and returns its exit status.
func (p *process) end(t *testing.T, how syscall.Signal) int {
	t.Helper()
	p.cmd.Process.Signal(how)
	err := <-p.done
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func TestCheckWatch(t *testing.T) {
	certFile, keyFile := trustedCertificate(t)
	server := newProcess(t)
	server.issuer = checkedIssuer
	server.must("keys", "init", "--store", "keys", "--issuer", checkedIssuer)
	server.start("--tls-cert", certFile, "--tls-key", keyFile)
	watch := newProcess(t)
	watch.launch("check", checkedIssuer, connectToPort(server.addr), "--for", "vault", "--watch", "--interval", "10ms")
	has := func(text string) func() bool { return func() bool { return strings.Contains(watch.output(), text) } }
	watch.eventually("the first round", has(" passed, 0 warned, 0 failed, "))
	if strings.Contains(watch.output(), "Z  ") {
		t.Error("something has changed already")
	}
	server.stop()
	watch.eventually("the server is gone", has("Z  fail  discovery/answer "))
	server.start("--tls-cert", certFile, "--tls-key", keyFile)
	watch.eventually("the server is back", has("Z  pass  discovery/answer "))
	if n := strings.Count(watch.output(), " discovery/answer "); n != 2 || strings.Contains(watch.output(), "  skip  ") {
		t.Errorf("reported %d times, want 2, and nothing that could not be asked\n%s", n, watch.output())
	}
	if code := watch.end(t, syscall.SIGINT); code != 0 {
		t.Errorf("interrupted when all is well: exit status %d\n%s", code, watch.output())
	}

	// The status is that of the last round.
	server.stop()
	watch = newProcess(t)
	watch.launch("check", checkedIssuer, connectToPort(server.addr), "--for", "vault", "--watch", "--interval", "10ms")
	watch.eventually("a round", has("fail  discovery/answer "))
	if code := watch.end(t, syscall.SIGTERM); code != 2 {
		t.Errorf("interrupted when nobody listens: exit status %d\n%s", code, watch.output())
	}
}

// A JSON document a line, for every round.
func TestCheckWatchJSON(t *testing.T) {
	certFile, keyFile := trustedCertificate(t)
	server := newProcess(t)
	server.issuer = checkedIssuer
	server.must("keys", "init", "--store", "keys", "--issuer", checkedIssuer)
	server.start("--tls-cert", certFile, "--tls-key", keyFile)
	watch := newProcess(t)
	watch.launch("check", checkedIssuer+"/", connectToPort(server.addr), "--watch", "--interval", "10ms", "-o", "json")
	watch.eventually("three rounds", func() bool { return strings.Count(watch.output(), "\n") >= 3 })
	if code := watch.end(t, syscall.SIGINT); code != 1 {
		t.Errorf("interrupted with a failure: exit status %d", code)
	}
	for line := range strings.Lines(watch.output()) {
		var report struct {
			Issuer  string
			Results []struct{ Check, Status string }
		}
		if err := json.Unmarshal([]byte(line), &report); err != nil || report.Issuer != checkedIssuer+"/" || len(report.Results) < 30 {
			t.Errorf("%v: %.200s", err, line)
		}
	}
}

// strangeServer serves TLS to which a handler says what it likes.
func strangeServer(t *testing.T, protocol string, handle func(net.Conn)) (address string) {
	t.Helper()
	certFile, keyFile := trustedCertificate(t)
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{protocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				go io.Copy(io.Discard, c)
				handle(c)
			}()
		}
	}()
	return l.Addr().String()
}

// Whatever a server sends, stderr is for what the program has to say.
func TestCheckIsQuiet(t *testing.T) {
	address := strangeServer(t, "h2", func(c net.Conn) {
		c.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00")) // settings
		for {
			if _, err := c.Write([]byte("\x00\x00\x01\x63\x00\x00\x00\x00\x00x")); err != nil { // no frame that there is
				return
			}
		}
	})
	p := newProcess(t)
	cmd := p.command("check", checkedIssuer, connectToPort(address), "--timeout", "300ms")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 1 || stderr.Len() > 0 {
		t.Errorf("exit status %d, %d bytes on stderr: %.300s\n%s", code, stderr.Len(), stderr.String(), p.output())
	}
}

// What a server calls its things moves no cursor, and the token is not shown,
// nor sent.
func TestCheckPrintsSafely(t *testing.T) {
	const evil = "\x1b]0;owned\a\x1b[2J\r\n\u202egnp.exe\u2066\u0085\u009b31m\u2028"
	certFile, keyFile := trustedCertificate(t)
	var mu sync.Mutex
	var heard bytes.Buffer
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		text, _ := httputil.DumpRequest(req, true)
		mu.Lock()
		heard.Write(text)
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json; x=\"\u202e\"")
		w.Header().Set("Cache-Control", "max-age=\u202e")
		if strings.HasSuffix(req.URL.Path, "/keys") {
			json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{"kid": evil, "kty": evil, "use": evil, "alg": evil, "crv": evil}}})
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"issuer": evil, "jwks_uri": checkedIssuer + "/\u202e/keys", "id_token_signing_alg_values_supported": []string{evil}})
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.ServeTLS(l, certFile, keyFile)
	t.Cleanup(func() { s.Close() })

	maker := newProcess(t)
	maker.must("keys", "init", "--store", "keys", "--issuer", checkedIssuer, "--algorithm", "ES256")
	out, err := func() ([]byte, error) {
		cmd := maker.command("token", "--store", "keys", "--audience", "vault")
		cmd.Stdout = nil
		return cmd.Output()
	}()
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(out))
	for _, format := range []string{"table", "json"} {
		p := newProcess(t)
		cmd := p.command("check", checkedIssuer, connectToPort(l.Addr().String()), "--for", "all", "--token", "-", "-o", format)
		cmd.Stdin = strings.NewReader(token + "\n")
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.output(), "token/kid") {
			t.Errorf("exit status %d: %s", code, p.output())
		}
		if i := strings.IndexFunc(p.output(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%s: not fit to be printed: %.100q", format, p.output()[i:])
		}
		for _, part := range slices.Concat(strings.Split(token, "."), []string{token}) {
			if mu.Lock(); strings.Contains(p.output(), part) || bytes.Contains(heard.Bytes(), []byte(part)) {
				t.Errorf("%s: shown or sent: %.20s", format, part)
			}
			mu.Unlock()
		}
	}
}
