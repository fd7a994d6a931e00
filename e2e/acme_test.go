package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	acmeHost   = "oidc.example.test"
	secondHost = "second.example.test"

	// obtaining is more than an authority that answers needs for a certificate.
	obtaining = 30 * time.Second

	// years is longer than any test: nothing is renewed.
	years = 10 * 365 * 24 * time.Hour
)

// An acmeServer is our program with certificates from a pebble. On each of its
// hosts it serves one issuer, with a key that somebody has laid down.
type acmeServer struct {
	*provider
	pebble   *pebble
	tls, key string // of the configuration
}

// newServer configures nothing yet. The server is where the authority looks for
// the challenge; all of a lab share one storage.
func (p *pebble) newServer(challenge string) *acmeServer {
	p.lab.t.Helper()
	s := &acmeServer{provider: p.lab.newProvider(calm), pebble: p}
	s.listen = address(p.tlsPort)
	s.extra = []string{"--log-level", "debug"}
	httpListen := ""
	if challenge == "http-01" {
		httpListen = ", httpListen: " + address(p.httpPort)
	}
	s.tls = fmt.Sprintf("{acme: {directory: %q, caFile: %q, storage: acme, email: somebody@example.test, challenges: [%s], checkInterval: 1s%s}}",
		p.directory, p.lab.ca.caFile, challenge, httpListen)
	_, s.key = writeServiceAccountKeys(p.lab.t, p.lab.t.TempDir())
	p.lab.t.Cleanup(s.noSecrets)
	return s
}

func (s *acmeServer) configure(hosts ...string) {
	s.lab.t.Helper()
	issuers := make(map[string]string)
	for _, host := range hosts {
		issuers["https://"+host+"/clusters/a"] = fmt.Sprintf("files: {paths: [%q]}", s.key)
	}
	s.provider.configure(s.tls, issuers)
}

// caller fetches the key set of the issuer on this host.
func (s *acmeServer) caller(host string) *caller {
	s.lab.t.Helper()
	return newCaller(s.listen, host, "/clusters/a/openid/v1/jwks", s.pebble.roots())
}

// logged are the records with this message about a host.
func (s *acmeServer) logged(message, host string) (records []string) {
	for line := range bytes.Lines(s.process.output()) {
		var record struct{ Msg, Host string }
		if json.Unmarshal(line, &record) == nil && record.Msg == message && record.Host == host {
			records = append(records, string(line))
		}
	}
	return records
}

func (s *acmeServer) obtained(host string) int {
	return len(s.logged("obtained a TLS certificate", host))
}

// noSecrets looks for the keys and certificates of the storage in the log.
func (s *acmeServer) noSecrets() {
	if s.process == nil {
		return
	}
	t := s.lab.t
	log, err := os.ReadFile(s.process.logPath)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(s.lab.path("acme"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".key" && filepath.Ext(path) != ".crt" {
			return err
		}
		seen++
		data, err := os.ReadFile(path)
		for _, line := range strings.Split(string(data), "\n") {
			if len(line) > 30 && bytes.Contains(log, []byte(line[:30])) {
				t.Errorf("the log quotes %s", path)
				break
			}
		}
		return err
	})
	if err != nil || seen < 3 {
		t.Errorf("found %d keys and certificates in the storage, %v", seen, err)
	}
	if bytes.Contains(log, []byte("-----BEGIN")) {
		t.Error("there is PEM in the log")
	}
	if !bytes.Contains(log, []byte(`"level":"DEBUG"`)) {
		t.Error("the log does not tell all that it could")
	}
}

// TestACMERenewal has certificates of half a minute renewed twice, by either
// challenge, while relying parties connect all the time.
func TestACMERenewal(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			const life = 30 * time.Second
			p := newLab(t).newPebble(life)
			s := p.newServer(challenge)
			s.configure(acmeHost)
			s.startConfigured()
			caller := s.caller(acmeHost)
			first := caller.serial(t, obtaining)
			if says := s.readyzVerbose(t); !strings.Contains(says, "[+]certificate ok: "+acmeHost+" expires at ") {
				t.Errorf("/readyz?verbose with a certificate:\n%s", says)
			}

			rush := caller.rush(t, 6)
			time.Sleep(life) // whoever is still shown the first one refuses it
			rush.await(3, time.Minute)
			rush.report()
			s.process.stop(30 * time.Second)
			if rush.serials[0] != first {
				t.Errorf("the rush began with certificate %s, want %s", rush.serials[0], first)
			}
			if issued, validated := p.issued(), p.validated(); validated < issued {
				t.Errorf("%d certificates were issued after %d validations, want one for each", issued, validated)
			}
		})
	}
}

// TestACMEReload changes the hosts of the issuers, and asks for others.
func TestACMEReload(t *testing.T) {
	t.Parallel()
	const life = 20 * time.Second
	p := newLab(t).newPebble(life)
	s := p.newServer("tls-alpn-01")
	s.configure(acmeHost)
	s.startConfigured()
	s.caller(acmeHost).serial(t, obtaining)

	// Whoever asks for nothing or for another name sees what there is.
	for _, name := range []string{"", "unknown.example.test"} {
		conn, err := tls.Dial("tcp", s.listen, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			t.Errorf("a client that asks for %q: %v", name, err)
			continue
		}
		if err := conn.ConnectionState().PeerCertificates[0].VerifyHostname(acmeHost); err != nil {
			t.Errorf("a client that asks for %q: %v", name, err)
		}
		conn.Close()
	}
	// A challenge that nobody set is not answered, and not asked for either.
	if conn, err := tls.Dial("tcp", s.listen, &tls.Config{
		ServerName: "unknown.example.test", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"},
	}); err == nil {
		conn.Close()
		t.Error("a challenge that was not set was answered")
	}

	s.configure(acmeHost, secondHost)
	second := s.caller(secondHost)
	second.serial(t, obtaining)
	s.configure(secondHost)
	eventually(t, "the first host is forgotten", 5*time.Second, func() error {
		if says := s.readyzVerbose(t); strings.Contains(says, acmeHost) || !strings.Contains(says, secondHost+" expires at ") {
			return fmt.Errorf("/readyz?verbose:\n%s", says)
		}
		return nil
	})
	// One renewal may have been under way, whose certificate ends in here.
	rush := second.rush(t, 1)
	time.Sleep(3 * time.Second)
	before := s.obtained(acmeHost)
	time.Sleep(life)
	rush.await(2, life)
	rush.report()
	if after := s.obtained(acmeHost); before == 0 || after != before {
		t.Errorf("%s had %d certificates when its issuer was gone, and has had %d", acmeHost, before, after)
	}
	s.process.stop(30 * time.Second)
}

// TestACMERestart starts again with the same storage, and at last with a key in
// it that does not fit.
func TestACMERestart(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	p := lab.newPebble(years)
	s := p.newServer("tls-alpn-01")
	s.configure(acmeHost)
	s.startConfigured()
	caller := s.caller(acmeHost)
	first := caller.serial(t, obtaining)
	stop := func() { s.process.stop(30 * time.Second) }
	for _, end := range []func(){stop, func() { s.process.kill() }} {
		end()
		s.startConfigured()
		again := caller.serial(t, obtaining)
		time.Sleep(2 * time.Second) // two more checks
		if again != first || p.issued() != 1 {
			t.Errorf("after a restart the certificate is %s, of %d issued, want %s, the only one", again, p.issued(), first)
		}
	}

	stop()
	keys, err := filepath.Glob(lab.path("acme", "certificates", "*", acmeHost, "*.key"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("keys %q, %v", keys, err)
	}
	other, err := os.ReadFile(lab.ca.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keys[0], other, 0o600); err != nil {
		t.Fatal(err)
	}
	s.startConfigured()
	caller.serial(t, obtaining, first)
	if p.issued() != 2 {
		t.Errorf("%d certificates were issued, want a second one for the pair that did not fit", p.issued())
	}
	stop()
}

// TestACMEAccount renews, in the name of another account, a certificate that the
// authority has given to the one before: the file names another email.
func TestACMEAccount(t *testing.T) {
	t.Parallel()
	p := newLab(t).newPebble(20 * time.Second)
	s := p.newServer("tls-alpn-01")
	s.configure(acmeHost)
	s.startConfigured()
	caller := s.caller(acmeHost)
	caller.serial(t, obtaining)
	s.process.stop(30 * time.Second)
	s.tls = strings.Replace(s.tls, "somebody@", "successor@", 1)
	s.configure(acmeHost)
	s.startConfigured()
	caller.serial(t, obtaining)
	rush := caller.rush(t, 1)
	rush.await(3, time.Minute)
	rush.report()
	s.process.stop(30 * time.Second)
}

// TestACMERefused has two hosts that get no certificate: one that the authority
// will not have, and one that it looks for where we are not. The others are
// served.
func TestACMERefused(t *testing.T) {
	t.Parallel()
	const lostHost = "lost.example.test"
	p := newLab(t).newPebble(years)
	p.resolve(lostHost, "127.0.0.2")
	s := p.newServer("tls-alpn-01")
	s.configure(lostHost, acmeHost, refusedHost)
	s.startConfigured()
	caller := s.caller(acmeHost)
	caller.serial(t, obtaining)
	rush := caller.rush(t, 2)
	for host, reason := range map[string]string{lostHost: "Failed to connect to 127.0.0.2", refusedHost: "forbidden by policy"} {
		told := regexp.MustCompile(regexp.QuoteMeta(host) + ` has none yet: [^;]*` + regexp.QuoteMeta(reason) +
			`.*\(hint: the authority must be able to reach this server on port 443`)
		eventually(t, "it is told why "+host+" has no certificate", obtaining, func() error {
			if says := s.readyzVerbose(t); !told.MatchString(says) || !strings.HasSuffix(says, "\nready\n") {
				return fmt.Errorf("/readyz?verbose:\n%s", says)
			}
			return nil
		})
		if records := s.logged("no TLS certificate could be obtained", host); len(records) != 1 ||
			!strings.Contains(records[0], reason) || !strings.Contains(records[0], `"hint":"`) || !strings.Contains(records[0], `"level":"ERROR"`) {
			t.Errorf("logged about %s: %q", host, records)
		}
	}
	time.Sleep(2 * time.Second) // two more checks
	rush.report()
	if p.issued() != 1 {
		t.Errorf("%d certificates were issued, want the one for %s", p.issued(), acmeHost)
	}
	s.process.stop(30 * time.Second)
}

// newServers are two that share a storage, of which the authority finds the
// first.
func (p *pebble) newServers() []*acmeServer {
	p.lab.t.Helper()
	a, b := p.newServer("tls-alpn-01"), p.newServer("tls-alpn-01")
	b.name, b.listen = "other", address(p.lab.freePort())
	return []*acmeServer{a, b}
}

// TestACMEShared has the server that the authority finds answer for the other.
func TestACMEShared(t *testing.T) {
	t.Parallel()
	p := newLab(t).newPebble(years)
	servers := p.newServers()
	for _, s := range servers {
		s.configure(acmeHost)
		s.startConfigured()
	}
	var serials []string
	for _, s := range servers {
		serials = append(serials, s.caller(acmeHost).serial(t, obtaining))
	}
	if serials[0] != serials[1] || p.issued() != 1 {
		t.Errorf("the two have the certificates %q, of %d issued, want one for both", serials, p.issued())
	}
	b := servers[1]
	b.configure(acmeHost, secondHost)
	b.caller(secondHost).serial(t, obtaining)
	if p.issued() != 2 || p.validated() != 2 || b.obtained(secondHost) != 1 {
		t.Errorf("%d certificates were issued after %d validations, %d of them to the second server", p.issued(), p.validated(), b.obtained(secondHost))
	}
	for _, s := range servers {
		s.process.stop(30 * time.Second)
	}
}

// TestACMESharedRenewal has two servers that share a storage go from one
// certificate to the next together.
func TestACMESharedRenewal(t *testing.T) {
	t.Parallel()
	p := newLab(t).newPebble(30 * time.Second)
	servers := p.newServers()
	var rushes []*rush
	for _, s := range servers {
		s.configure(acmeHost)
		s.startConfigured()
		caller := s.caller(acmeHost)
		caller.serial(t, obtaining)
		rushes = append(rushes, caller.rush(t, 2))
	}
	a, b := rushes[0], rushes[1]
	a.await(2, time.Minute)
	b.await(2, time.Minute)
	eventually(t, "both have the same certificate", 10*time.Second, func() error {
		if x, y := a.last(), b.last(); x != y {
			return fmt.Errorf("%s and %s", x, y)
		}
		return nil
	})
	a.report()
	b.report()
	for _, s := range servers {
		s.process.stop(30 * time.Second)
	}
}
