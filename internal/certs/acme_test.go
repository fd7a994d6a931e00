package certs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"oidc-provider/internal/certs"
	"oidc-provider/internal/hint"
)

// noAuthority is a URL where no server listens, and noIssuer its name in the storage.
const (
	noAuthority = "https://127.0.0.1:1/directory"
	noIssuer    = "127.0.0.1:1-directory"
)

func TestACMEConfig(t *testing.T) {
	noCA := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noCA, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*certs.ACMEConfig)
		want   string // in the error and its hint, "" for none
	}{
		{"as it is", func(*certs.ACMEConfig) {}, ""},
		{"everything", func(c *certs.ACMEConfig) { c.Email, c.CheckInterval = "a@example.com", time.Second }, ""},
		{"both challenges", func(c *certs.ACMEConfig) {
			c.Challenges, c.HTTPPort = []string{"http-01", "tls-alpn-01"}, 80
		}, ""},
		{"http directory", func(c *certs.ACMEConfig) { c.Directory = "http://ca.example.com/dir" },
			"(hint: set {tls.acme.directory} to an https URL such as https://"},
		{"directory without host", func(c *certs.ACMEConfig) { c.Directory = "https:///dir" }, "(hint: set {tls.acme.directory}"},
		{"email with a name", func(c *certs.ACMEConfig) { c.Email = "A <a@example.com>" }, "(hint: set {tls.acme.email} to name@example.com"},
		{"no storage", func(c *certs.ACMEConfig) { c.Storage = "" }, "(hint: set {tls.acme.storage} to a directory"},
		{"unknown challenge", func(c *certs.ACMEConfig) { c.Challenges = []string{"dns-01"} },
			"(hint: set {tls.acme.challenges} to tls-alpn-01 or http-01"},
		{"no TLS port", func(c *certs.ACMEConfig) { c.TLSPort = 0 }, "(hint: set {listen})"},
		{"no HTTP port", func(c *certs.ACMEConfig) { c.Challenges = []string{"tls-alpn-01", "http-01"} },
			"(hint: set {tls.acme.httpListen})"},
		{"hurry", func(c *certs.ACMEConfig) { c.CheckInterval = time.Millisecond }, "(hint: set {tls.acme.checkInterval} to 1s"},
		{"no CA file", func(c *certs.ACMEConfig) { c.CAFile = "/nowhere/ca.pem" }, "/nowhere/ca.pem"},
		{"no PEM", func(c *certs.ACMEConfig) { c.CAFile = noCA }, noCA + ": no certificate in PEM form (hint: set {tls.acme.caFile}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := certs.ACMEConfig{Storage: filepath.Join(t.TempDir(), "acme"), TLSPort: 443}
			tt.change(&cfg)
			a, err := certs.NewACME(cfg)
			if err == nil {
				a.Stop()
				a.Stop() // twice is as good
			}
			if got := text(err); (tt.want == "") != (err == nil) || !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %q", got, tt.want)
			}
			if _, statErr := os.Stat(cfg.Storage); err != nil && statErr == nil {
				t.Error("a configuration that was rejected has left a storage")
			}
		})
	}
}

// text returns err with its hints, and the settings as they are.
func text(err error) string {
	return hint.Text(err, func(field string) string { return "{" + field + "}" })
}

func TestACMEStorageMode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "acme")
	open := func() error {
		a, err := certs.NewACME(certs.ACMEConfig{Storage: dir, TLSPort: 443})
		if err == nil {
			a.Stop()
		}
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the storage was made as %v, %v, want mode 700", info, err)
	}
	for _, mode := range []os.FileMode{0o750, 0o701, 0o770} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if err := open(); err == nil || hint.Of(err) != "run `chmod 700 "+dir+"`" {
			t.Errorf("storage with mode %o: %v", mode, err)
		}
	}
}

func TestACMEChallengesPassOn(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		a, err := certs.NewACME(certs.ACMEConfig{Storage: filepath.Join(t.TempDir(), "acme"), Challenges: []string{challenge}, TLSPort: 443, HTTPPort: 80})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Stop()
		for _, path := range []string{"/", "/openid/v1/jwks", "/.well-known/acme-challenge/unknown", "/.well-known/acme-challenge/../../x"} {
			rec := httptest.NewRecorder()
			a.Challenges(next).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://oidc.example.com"+path, nil))
			if rec.Code != http.StatusTeapot {
				t.Errorf("%s: GET %s: %d, want what comes next", challenge, path, rec.Code)
			}
		}
		if protocols := a.TLSConfig().NextProtos; slices.Contains(protocols, "acme-tls/1") != (challenge == "tls-alpn-01") ||
			!slices.Contains(protocols, "h2") || !slices.Contains(protocols, "http/1.1") {
			t.Errorf("%s: TLS offers %q", challenge, protocols)
		}
	}
}

// A sharedLog may be read while it is written.
type sharedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// An acmeFixture has an ACME whose authority is unavailable.
type acmeFixture struct {
	t       *testing.T
	a       *certs.ACME
	storage string
	log     sharedLog
}

func newACME(t *testing.T, directory, storage string) *acmeFixture {
	t.Helper()
	f := &acmeFixture{t: t, storage: storage}
	a, err := certs.NewACME(certs.ACMEConfig{
		Directory: directory, Storage: storage, TLSPort: 443, Log: slog.New(slog.NewTextHandler(&f.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.a = a
	return f
}

// expect compares what the check says with a part of it, and whether it is well.
func (f *acmeFixture) expect(when, want string, well bool) {
	f.t.Helper()
	synctest.Wait()
	detail, err := f.a.Status()
	if err != nil {
		detail = text(err)
	}
	if well != (err == nil) || !strings.Contains(detail, want) {
		f.t.Errorf("%s: the check says %q, %v, want %q", when, detail, err, want)
	}
}

// stop ends the fixture. The goroutines that are left would fail the test when
// its bubble ends; that of certmagic's lock looks every five seconds whether it
// was given back.
func (f *acmeFixture) stop() {
	f.t.Helper()
	f.a.Stop()
	if locks := f.locks(); len(locks) > 0 {
		f.t.Errorf("after Stop: locks %q", locks)
	}
	f.a.Manage(context.Background(), []string{"late.example.com"})
	time.Sleep(6 * time.Second)
}

func (f *acmeFixture) locks() []string {
	f.t.Helper()
	locks, err := filepath.Glob(filepath.Join(f.storage, "locks", "*"))
	if err != nil {
		f.t.Fatal(err)
	}
	return locks
}

func (f *acmeFixture) serves(name string) *x509.Certificate {
	f.t.Helper()
	conn, other := net.Pipe()
	defer conn.Close()
	defer other.Close()
	cert, err := f.a.TLSConfig().GetCertificate(&tls.ClientHelloInfo{ServerName: name, Conn: conn})
	if err != nil {
		return nil
	}
	return cert.Leaf
}

func TestACMEWithoutAuthority(t *testing.T) {
	storage := filepath.Join(t.TempDir(), "acme")
	synctest.Test(t, func(t *testing.T) {
		f := newACME(t, noAuthority, storage)
		f.expect("before any name", "no name needs one", true)
		f.a.Manage(t.Context(), []string{"OIDC.example.com", "b.example.com"})
		f.expect("at first", "b.example.com has none yet; oidc.example.com has none yet", false)
		time.Sleep(30 * time.Second)
		f.expect("after an attempt", "oidc.example.com has none yet: ", false)
		f.expect("after an attempt", "connection refused", false)
		f.expect("after an attempt", "(hint: the authority must be able to reach this server on port 443 of that name", false)
		if cert := f.serves("oidc.example.com"); cert != nil {
			t.Errorf("a certificate of %q from nowhere", cert.DNSNames)
		}
		if n := testutil.CollectAndCount(f.a.Metric()); n != 0 {
			t.Errorf("%d metrics without a certificate", n)
		}
		attempts := func() int {
			return strings.Count(f.log.String(), "no TLS certificate could be obtained\" host=oidc.example.com")
		}
		if attempts() != 1 {
			t.Errorf("%d attempts in half a minute, want 1:\n%s", attempts(), f.log.String())
		}
		time.Sleep(45 * time.Second)
		synctest.Wait()
		if attempts() != 2 {
			t.Errorf("%d attempts after a minute and more, want 2:\n%s", attempts(), f.log.String())
		}

		f.a.Manage(t.Context(), []string{"b.example.com"})
		time.Sleep(time.Hour)
		f.expect("of two names one", "b.example.com has none yet: ", false)
		if detail, err := f.a.Status(); err == nil || strings.Contains(err.Error(), "oidc.example.com") || attempts() != 2 {
			t.Errorf("of a name that is gone the check says %q, %v, after %d attempts", detail, err, attempts())
		}
		f.stop()
		if lines, told := strings.Count(f.log.String(), "\n"), strings.Count(f.log.String(), "no TLS certificate could be obtained"); lines != told {
			t.Errorf("the log has %d lines, and %d about what failed:\n%s", lines, told, f.log.String())
		}
	})
}

// store writes a certificate as if it had been obtained earlier.
func store(t *testing.T, storage, issuer, host string, notBefore, notAfter time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: notBefore, NotAfter: notAfter}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := certmagic.FileStorage{Path: storage}
	for name, data := range map[string][]byte{
		certmagic.StorageKeys.SiteCert(issuer, host):       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		certmagic.StorageKeys.SitePrivateKey(issuer, host): pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		certmagic.StorageKeys.SiteMeta(issuer, host):       []byte(`{"sans":["` + host + `"]}`),
	} {
		if err := files.Store(t.Context(), name, data); err != nil {
			t.Fatal(err)
		}
	}
}

// TestACMEFromStorage has an earlier certificate, which no authority renews.
func TestACMEFromStorage(t *testing.T) {
	// certmagic remembers failed renewals by name: each run needs another name.
	host := fmt.Sprintf("stored%d.example.com", time.Now().UnixNano())
	storage := filepath.Join(t.TempDir(), "acme")
	synctest.Test(t, func(t *testing.T) {
		f := newACME(t, noAuthority, storage)
		const life = 90 * 24 * time.Hour
		expiry := time.Now().Add(life)
		store(t, storage, noIssuer, host, time.Now(), expiry)
		f.a.Manage(t.Context(), []string{"other.example.com", host})
		synctest.Wait()
		for _, name := range []string{host, strings.ToUpper(host), "other.example.com", "unknown.example.com", ""} {
			if cert := f.serves(name); cert == nil || cert.DNSNames[0] != host {
				t.Errorf("who asks for %q gets %v, want the only certificate", name, cert)
			}
		}
		f.a.Manage(t.Context(), []string{host})
		f.expect("of two names one", host+" expires at "+expiry.Format(time.RFC3339), true)
		registry := prometheus.NewRegistry()
		registry.MustRegister(f.a.Metric())
		families, err := registry.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "oidc_provider_tls_not_after_timestamp_seconds" ||
			families[0].Metric[0].GetGauge().GetValue() != float64(expiry.Unix()) ||
			families[0].Metric[0].Label[0].GetName() != "host" || families[0].Metric[0].Label[0].GetValue() != host {
			t.Errorf("metrics %v, %v", families, err)
		}

		time.Sleep(life*2/3 - time.Hour)
		f.expect("before the last third", host+" expires at", true)
		time.Sleep(2 * time.Hour)
		f.expect("in the last third", "connection refused", false)
		time.Sleep(life / 3)
		f.expect("in the end", host+" expired at "+expiry.Format(time.RFC3339)+": ", false)
		if cert := f.serves(host); cert == nil {
			t.Error("a certificate that has expired is better than none")
		}

		f.a.Manage(t.Context(), nil)
		f.expect("without any name", "no name needs one", true)
		if cert := f.serves(host); cert != nil || testutil.CollectAndCount(f.a.Metric()) != 0 {
			t.Error("the certificate of a name that is gone stays")
		}
		f.stop()
		if strings.Contains(f.log.String(), "BEGIN") {
			t.Errorf("there is PEM in the log:\n%s", f.log.String())
		}
	})
}

// TestACMEStopDuringRenewal starts with a certificate that has expired, which is
// renewed at once, and stops while the authority is silent.
func TestACMEStopDuringRenewal(t *testing.T) {
	host := fmt.Sprintf("expired%d.example.com", time.Now().UnixNano())
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	storage := filepath.Join(t.TempDir(), "acme")
	f := newACME(t, "https://"+silent.Addr().String(), storage)
	store(t, storage, silent.Addr().String(), host, time.Now().Add(-time.Hour), time.Now().Add(-time.Minute))
	f.a.Manage(t.Context(), []string{host})
	silent.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := silent.Accept() // the authority is asked
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if len(f.locks()) == 0 {
		t.Error("no lock is held during renewal")
	}
	began := time.Now()
	f.a.Stop()
	if locks, took := f.locks(), time.Since(began); len(locks) > 0 || took > 4*time.Second {
		t.Errorf("Stop took %s and left the locks %q", took, locks)
	}
}
