package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// publicHost is a host that no DNS knows, for those who take no port in a URL.
const publicHost = "oidc.example.test"

// An authority is the private CA that a test's relying parties trust. It has
// issued one certificate, which our process and the API server share.
type authority struct {
	caFile, certFile, keyFile string
	chainFile                 string // the certificate and the CA's own
	pool                      *x509.CertPool
}

func newAuthority(t testing.TB, dir string) *authority {
	t.Helper()
	a := &authority{
		caFile:    filepath.Join(dir, "ca.pem"),
		certFile:  filepath.Join(dir, "tls.crt"),
		chainFile: filepath.Join(dir, "chain.crt"),
		keyFile:   filepath.Join(dir, "tls.key"),
		pool:      x509.NewCertPool(),
	}
	caKey, leafKey := newECKey(t), newECKey(t)
	ca := certificate("e2e CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	ca = sign(t, ca, ca, caKey.Public(), caKey)

	leaf := certificate("localhost")
	leaf.DNSNames = []string{"localhost", publicHost}
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf = sign(t, leaf, ca, leafKey.Public(), caKey)

	a.pool.AddCert(ca)
	writePEM(t, a.caFile, "CERTIFICATE", ca.Raw)
	writePEM(t, a.certFile, "CERTIFICATE", leaf.Raw)
	writePEM(t, a.chainFile, "CERTIFICATE", leaf.Raw, ca.Raw)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.keyFile, "PRIVATE KEY", der)
	return a
}

// tls is the field of a configuration file that serves with the certificate.
func (a *authority) tls() string {
	return fmt.Sprintf("{certFile: %q, keyFile: %q}", a.certFile, a.keyFile)
}

// client trusts the authority, and gives up on a request before a test would.
func (a *authority) client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool}},
		Timeout:   10 * time.Second,
	}
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func sign(t testing.TB, cert, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// writeServiceAccountKeys writes the pair that a cluster signs with before it
// meets us, in the PEM types that kubeadm writes to sa.key and sa.pub.
func writeServiceAccountKeys(t testing.TB, dir string) (private, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	private, public = filepath.Join(dir, "sa.key"), filepath.Join(dir, "sa.pub")
	writePEM(t, private, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	writePEM(t, public, "PUBLIC KEY", der)
	return private, public
}

func writePEM(t testing.TB, path, kind string, ders ...[]byte) {
	t.Helper()
	var data []byte
	for _, der := range ders {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
