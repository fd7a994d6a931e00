package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/web"
)

const (
	acmeHost = "oidc.example.test"

	// obtaining is more than an authority that answers needs for a certificate.
	obtaining = 20 * time.Second
)

// An acmeServer is this process, with certificates from a pebble, on the ports
// where that looks for it.
type acmeServer struct {
	lab     *lab
	acme    *web.ACME
	address string // TLS
	servers []*http.Server
}

// serveACME serves until the test ends or close is called.
func (l *lab) serveACME(p *pebble, challenge string, hosts ...string) *acmeServer {
	l.t.Helper()
	log := l.logFile("acme")
	l.t.Cleanup(func() { log.Close() })
	a, err := web.NewACME(web.ACMEConfig{
		Directory: p.directory, CAFile: l.ca.caFile, Storage: l.path("acme"), Email: "somebody@example.test",
		Challenges: []string{challenge}, TLSPort: p.tlsPort, HTTPPort: p.httpPort,
		CheckInterval: time.Second,
		Log:           slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	s := &acmeServer{lab: l, acme: a, address: address(p.tlsPort)}
	notFound := http.NotFoundHandler()
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	s.serve(s.address, &http.Server{Handler: ok, TLSConfig: a.TLSConfig()})
	if challenge == "http-01" {
		s.serve(address(p.httpPort), &http.Server{Handler: a.Challenges(notFound)})
	}
	l.t.Cleanup(s.close)
	a.Manage(l.t.Context(), hosts)
	return s
}

func (s *acmeServer) serve(addr string, server *http.Server) {
	s.lab.t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		s.lab.t.Fatal(err)
	}
	server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	if server.TLSConfig != nil {
		go server.ServeTLS(listener, "", "")
	} else {
		go server.Serve(listener)
	}
	s.servers = append(s.servers, server)
}

// close ends obtaining, and then gives up the ports that it needs.
func (s *acmeServer) close() {
	s.acme.Stop()
	for _, server := range s.servers {
		server.Close()
	}
}

func (s *acmeServer) check() (string, error) { return s.acme.Check().Run() }

// expiries are the hosts with a certificate, as the metrics tell.
func (s *acmeServer) expiries() map[string]time.Time {
	s.lab.t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.acme.Metric())
	families, err := registry.Gather()
	if err != nil {
		s.lab.t.Fatal(err)
	}
	hosts := make(map[string]time.Time)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			hosts[metric.GetLabel()[0].GetValue()] = time.Unix(int64(metric.GetGauge().GetValue()), 0)
		}
	}
	return hosts
}

// TestACMERenewal has certificates of half a minute renewed twice, by either
// challenge, while new connections are made all the time.
func TestACMERenewal(t *testing.T) {
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			lab := newLab(t)
			p := lab.newPebble(30 * time.Second)
			s := lab.serveACME(p, challenge, acmeHost)
			caller := newCaller(s.address, acmeHost, "/", p.roots())
			first := caller.serial(t, obtaining)
			if detail, err := s.check(); err != nil {
				t.Errorf("with a certificate the check says %q, %v", detail, err)
			}

			rush := caller.rush(t, 8)
			began := time.Now()
			eventually(t, "two renewals", 2*time.Minute, func() error {
				if n := rush.seen(); n < 3 {
					return fmt.Errorf("%d certificates seen in %s", n, time.Since(began).Round(time.Second))
				}
				return nil
			})
			rush.report()
			s.acme.Stop()
			if rush.serials[0] != first {
				t.Errorf("the rush began with certificate %s, want %s", rush.serials[0], first)
			}
			if issued, validated := p.issued(), p.validated(); validated != issued {
				t.Errorf("%d certificates were issued after %d validations, want one for each", issued, validated)
			}
			noSecrets(t, lab.path("acme.log"), lab.path("acme"))
		})
	}
}

// noSecrets looks for the keys and certificates below dir in a log.
func noSecrets(t *testing.T, logPath, dir string) {
	t.Helper()
	log, err := os.ReadFile(logPath)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".key" && filepath.Ext(path) != ".crt" {
			return err
		}
		seen++
		data, err := os.ReadFile(path)
		for _, line := range strings.Split(string(data), "\n") {
			if len(line) > 30 && strings.Contains(string(log), line[:30]) {
				t.Errorf("the log quotes %s", path)
				break
			}
		}
		return err
	})
	if err != nil || seen < 3 {
		t.Errorf("found %d keys and certificates in %s, %v", seen, dir, err)
	}
	if bytes.Contains(log, []byte("-----BEGIN")) {
		t.Error("there is PEM in the log")
	}
}

// TestACMEManage changes the list of names, and asks for others.
func TestACMEManage(t *testing.T) {
	const second = "second.example.test"
	lab := newLab(t)
	p := lab.newPebble(20 * time.Second)
	s := lab.serveACME(p, "tls-alpn-01", acmeHost)
	roots := p.roots()
	if _, err := s.check(); err == nil || !strings.Contains(err.Error(), acmeHost) {
		t.Errorf("without a certificate the check says %v", err)
	}
	newCaller(s.address, acmeHost, "/", roots).serial(t, obtaining)

	// Whoever asks for nothing or for another name sees what there is.
	for _, name := range []string{"", "unknown.example.test"} {
		conn, err := tls.Dial("tcp", s.address, &tls.Config{ServerName: name, InsecureSkipVerify: true})
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
	if conn, err := tls.Dial("tcp", s.address, &tls.Config{
		ServerName: "unknown.example.test", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"},
	}); err == nil {
		conn.Close()
		t.Error("a challenge that was not set was answered")
	}

	s.acme.Manage(t.Context(), []string{acmeHost, second})
	newCaller(s.address, second, "/", roots).serial(t, obtaining)
	if hosts := s.expiries(); len(hosts) != 2 {
		t.Errorf("certificates of %v, want of two hosts", hosts)
	}

	// The first is gone from the list, and is not renewed when its time comes.
	s.acme.Manage(t.Context(), []string{second})
	if hosts := s.expiries(); len(hosts) != 1 || hosts[second].IsZero() {
		t.Errorf("certificates of %v, want of %s alone", hosts, second)
	}
	before := orders(t, lab.path("acme.log"), acmeHost)
	caller := newCaller(s.address, second, "/", roots)
	rush := caller.rush(t, 1)
	time.Sleep(25 * time.Second)
	if rush.seen() < 2 {
		t.Errorf("%s was not renewed", second)
	}
	rush.report()
	if after := orders(t, lab.path("acme.log"), acmeHost); after != before {
		t.Errorf("%s got %d certificates after it was gone from the list", acmeHost, after-before)
	}
}

// orders counts the certificates that were obtained for host, by the log.
func orders(t *testing.T, logPath, host string) int {
	t.Helper()
	log, err := os.ReadFile(logPath)
	if err != nil {
		t.Fatal(err)
	}
	return len(regexp.MustCompile(`obtained a TLS certificate.*host=`+regexp.QuoteMeta(host)).FindAll(log, -1))
}

// TestACMERestart starts again with the same storage, once as it was left and
// once with a key that does not fit.
func TestACMERestart(t *testing.T) {
	lab := newLab(t)
	p := lab.newPebble(90 * 24 * time.Hour)
	roots := p.roots()
	run := func(not ...string) string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := lab.serveACME(p, "tls-alpn-01")
		s.acme.Manage(ctx, []string{acmeHost})
		serial := newCaller(s.address, acmeHost, "/", roots).serial(t, obtaining, not...)
		time.Sleep(3 * time.Second) // three more checks
		s.acme.Stop()
		if locks, err := filepath.Glob(lab.path("acme", "locks", "*")); err != nil || len(locks) > 0 {
			t.Errorf("after Stop: locks %q, %v", locks, err)
		}
		s.close()
		return serial
	}
	first := run()
	if again := run(); again != first || p.issued() != 1 {
		t.Errorf("after a restart the certificate is %s, of %d issued, want %s, the only one", again, p.issued(), first)
	}

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
	run(first)
	if p.issued() != 2 {
		t.Errorf("%d certificates were issued, want a second one for the pair that did not fit", p.issued())
	}
}

// TestACMERefused has the authority look for us where we are not, which also
// shows that it looks.
func TestACMERefused(t *testing.T) {
	lab := newLab(t)
	p := lab.newPebble(time.Hour)
	p.tlsPort = lab.freePort()
	s := lab.serveACME(p, "tls-alpn-01", acmeHost)
	eventually(t, "the check says why", obtaining, func() error {
		detail, err := s.check()
		if err == nil || !strings.Contains(err.Error(), "Failed to connect") || !strings.Contains(err.Error(), "(hint: the authority must reach") {
			return fmt.Errorf("it says %q, %v", detail, err)
		}
		return nil
	})
	if p.issued() > 0 || len(s.expiries()) > 0 {
		t.Errorf("the authority issued %d certificates, and there are %v, without a validation", p.issued(), s.expiries())
	}
}
