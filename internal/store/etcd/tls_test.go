package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"oidc-provider/internal/store/etcd"
)

// An authority signs certificates, and writes them to files in its directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{dir: t.TempDir()}
	a.sign(t, "ca")
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign writes NAME.crt and NAME.key for 127.0.0.1. The first signs itself.
func (a *authority) sign(t *testing.T, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if a.cert == nil {
		cert.IsCA, cert.BasicConstraintsValid = true, true
		a.cert, a.key = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	a.write(t, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

func (a *authority) write(t *testing.T, name, data string) {
	t.Helper()
	if err := os.WriteFile(a.file(name), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// server returns an option for a server with the certificate server.crt, which
// calls seen with the certificate of a client.
func (a *authority) server(t *testing.T, seen func(*x509.Certificate)) grpc.ServerOption {
	t.Helper()
	a.sign(t, "server")
	cfg, err := etcd.TLSConfig(a.file("ca.crt"), a.file("server.crt"), a.file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cfg.GetClientCertificate(nil) },
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      cfg.RootCAs,
		VerifyConnection: func(state tls.ConnectionState) error {
			seen(state.PeerCertificates[0])
			return nil
		},
	}))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	ours.sign(t, "client")
	theirs.sign(t, "client")
	c := newCluster()
	c.put(key, "one")
	var serial atomic.Value
	option := ours.server(t, func(cert *x509.Certificate) { serial.Store(cert.SerialNumber.String()) })
	m, plain := c.start(t, "", option), c.start(t, "")
	config := func(addr, ca, cert, key string) etcd.Config {
		t.Helper()
		tls, err := etcd.TLSConfig(ca, cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return etcd.Config{Endpoints: []string{addr}, TLS: tls}
	}
	cert, key := ours.file("client.crt"), ours.file("client.key")
	for _, addr := range []string{m.addr, "https://" + m.addr} {
		mustLoad(t, open(t, config(addr, ours.file("ca.crt"), cert, key)), "one")
	}

	var wg sync.WaitGroup
	for _, tt := range []struct {
		name, words string
		cfg         etcd.Config
		unavailable bool
	}{
		{"wrong CA", "etcd.caFile", config(m.addr, theirs.file("ca.crt"), cert, key), false},
		{"the system's CAs", "etcd.caFile", config(m.addr, "", cert, key), false},
		{"wrong host", "etcd.caFile",
			config(strings.Replace(m.addr, "127.0.0.1", "localhost", 1), ours.file("ca.crt"), cert, key), false},
		{"no client certificate", "etcd.certFile", config(m.addr, ours.file("ca.crt"), "", ""), false},
		{"wrong client certificate", "etcd.certFile",
			config(m.addr, ours.file("ca.crt"), theirs.file("client.crt"), theirs.file("client.key")), false},
		{"without TLS", "write etcds://", at(m.addr), true},
		{"with TLS", "write etcd://", config(plain.addr, ours.file("ca.crt"), cert, key), true},
	} {
		s := open(t, tt.cfg)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, _, err := s.Load(ctx)
			mustSay(t, err, tt.unavailable, tt.words)
		})
	}
	wg.Wait()

	// A new connection uses a new certificate.
	s := open(t, config(m.addr, ours.file("ca.crt"), cert, key))
	mustLoad(t, s, "one")
	before := serial.Load()
	m.server.Stop()
	os.Remove(cert)
	c.start(t, m.addr, option)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, _, err := s.Load(ctx)
	mustSay(t, err, true, cert, "etcd.certFile")
	ours.sign(t, "client")
	mustLoad(t, s, "one")
	if serial.Load() == before {
		t.Error("the new certificate was not used")
	}
}

func TestTLSConfigRefuses(t *testing.T) {
	a := newAuthority(t)
	a.sign(t, "client")
	a.write(t, "garbage", "garbage")
	ca, cert, key := a.file("ca.crt"), a.file("client.crt"), a.file("client.key")
	garbage, missing := a.file("garbage"), a.file("missing")
	for _, tt := range []struct{ ca, cert, key, word string }{
		{missing, cert, key, missing},
		{garbage, cert, key, garbage},
		{key, cert, key, key},
		{ca, cert, "", "etcd.keyFile"},
		{ca, "", key, "etcd.certFile"},
		{ca, missing, key, missing},
		{ca, cert, missing, missing},
		{ca, cert, garbage, garbage},
		{ca, cert, a.file("ca.key"), "ca.key"},
	} {
		_, err := etcd.TLSConfig(tt.ca, tt.cert, tt.key)
		mustSay(t, err, false, tt.word)
	}
	cfg, err := etcd.TLSConfig("", "", "")
	if err != nil || cfg.MinVersion != tls.VersionTLS12 || cfg.RootCAs != nil {
		t.Errorf("got %+v, %v", cfg, err)
	}
}
