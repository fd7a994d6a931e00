package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"oidc-provider/internal/certs"
)

// writePair writes a certificate that is valid until notAfter, and its key.
func writePair(t *testing.T, certFile, keyFile string, notAfter time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificateFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if _, err := certs.Load(certFile, keyFile); err == nil {
		t.Error("files that are not there were loaded")
	}
	for _, name := range []string{certFile, keyFile} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := certs.Load(certFile, keyFile); err == nil {
		t.Error("empty files were loaded")
	}
	synctest.Test(t, func(t *testing.T) {
		first := time.Now().Add(2 * time.Hour).Truncate(time.Second)
		writePair(t, certFile, keyFile, first)
		cert, err := certs.Load(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		go cert.Watch(t.Context(), slog.New(slog.NewTextHandler(&log, nil)))
		expect := func(what string, notAfter time.Time, problem string) {
			t.Helper()
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			if got := cert.NotAfter(); !got.Equal(notAfter) {
				t.Errorf("%s: the certificate in use expires at %v, want %v", what, got, notAfter)
			}
			_, err := cert.Status()
			if problem == "" && err != nil || problem != "" && (err == nil || !strings.Contains(err.Error(), problem)) {
				t.Errorf("%s: the check says %v, want %q", what, err, problem)
			}
		}
		expect("at first", first, "")
		writePair(t, certFile, keyFile+".new", first.Add(time.Hour))
		expect("half of a pair", first, "cannot be renewed")
		writePair(t, certFile, keyFile, time.Now().Add(-time.Minute))
		expect("a pair that has expired", first, "cannot be renewed")
		second := time.Now().Add(4 * time.Hour).Truncate(time.Second)
		writePair(t, certFile, keyFile, second)
		expect("a new pair", second, "")
		const gauge = `
# HELP oidc_provider_tls_not_after_timestamp_seconds Time when the TLS certificate expires.
# TYPE oidc_provider_tls_not_after_timestamp_seconds gauge
oidc_provider_tls_not_after_timestamp_seconds `
		want := gauge + strconv.FormatFloat(float64(second.Unix()), 'g', -1, 64) + "\n"
		if err := testutil.CollectAndCompare(cert.Metric(), strings.NewReader(want)); err != nil {
			t.Error(err)
		}
		if served, err := cert.TLSConfig().GetCertificate(nil); err != nil || !served.Leaf.NotAfter.Equal(second) {
			t.Errorf("the certificate that is served: %v, %v", served, err)
		}
		time.Sleep(5 * time.Hour)
		expect("hours later", second, "expired at")
		if n := strings.Count(log.String(), "expired at"); n != 2 {
			t.Errorf("expiry is logged %d times, want once for each certificate:\n%s", n, log.String())
		}
	})
}
