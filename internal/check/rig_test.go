//go:debug x509usefallbackroots=1

package check_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/check"
	"oidc-provider/jwks"
)

const issuer = "https://oidc.example.com"

// The CA that everybody trusts, the one of an enterprise, and an intermediate.
var root, private, intermediate authority

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // where HTTP/2 notes each frame that it does not understand
	root, private = newAuthority("Root", nil), newAuthority("Private", nil)
	intermediate = newAuthority("Intermediate", &root)
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	x509.SetFallbackRoots(pool)
	os.Exit(m.Run())
}

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serial atomic.Int64

func newAuthority(name string, by *authority) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := authority{template, key}
	if by == nil {
		by = &a
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		panic(err)
	}
	a.cert, err = x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return a
}

// leaf is a certificate by a, changed by change, with its key.
func (a authority) leaf(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: "oidc.example.com"}, DNSNames: []string{"oidc.example.com"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A rig is an issuer that is sound until a test breaks it.
type rig struct {
	testing.TB
	issuer        string // as asked for
	metadata      map[string]any
	keys          []map[string]any
	signing       *jwks.SigningKey
	configuration page
	keySet        page
	tls           *tls.Config
	options       check.Options
	// replicas are what stands at each address: rigs of their own.
	replicas []*rig
	// before may answer instead of the rig, and returns true if it has.
	before func(http.ResponseWriter, *http.Request) bool
}

// A page is a document as it is served.
type page struct {
	status int
	header http.Header
	body   []byte // nil for what the rig says
}

func newRig(t testing.TB) *rig {
	r := &rig{TB: t, issuer: issuer, signing: readKey(t, "rsa-pkcs8.pem")}
	i, err := discovery.ParseIssuer(issuer)
	if err != nil {
		t.Fatal(err)
	}
	data, err := discovery.New(i, jwks.AlgorithmNames()).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r.metadata); err != nil {
		t.Fatal(err)
	}
	r.keys = []map[string]any{jwk(t, r.signing.PublicKey)}
	r.configuration = page{200, http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"public, max-age=3600"}}, nil}
	r.keySet = page{200, http.Header{"Content-Type": {"application/jwk-set+json"}, "Cache-Control": {"public, max-age=300"}}, nil}
	leaf := intermediate.leaf(t, nil)
	leaf.Certificate = append(leaf.Certificate, intermediate.cert.Raw)
	r.tls = &tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"h2", "http/1.1"}}
	r.options.Tries = 6
	return r
}

// clone is a replica of r, to be broken by itself.
func (r *rig) clone() *rig {
	c := *r
	c.keys = nil
	for _, k := range r.keys {
		c.keys = append(c.keys, maps.Clone(k))
	}
	c.metadata = maps.Clone(r.metadata)
	c.configuration.header, c.keySet.header = r.configuration.header.Clone(), r.keySet.header.Clone()
	c.tls = r.tls.Clone()
	return &c
}

func readKey(t testing.TB, name string) *jwks.SigningKey {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "keys", name))
	if err != nil {
		t.Fatal(err)
	}
	keys, _, err := jwks.ParsePEM(data)
	if err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

// jwk is a public key as the JSON object that we publish.
func jwk(t testing.TB, key jwks.PublicKey) map[string]any {
	t.Helper()
	data, err := jwks.Marshal([]jwks.PublicKey{key})
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys[0]
}

func (r *rig) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	hear(req)
	if r.before != nil && r.before(w, req) {
		return
	}
	var p page
	var content any
	switch req.URL.Path {
	case discovery.WellKnown:
		p, content = r.configuration, r.metadata
	case discovery.JWKSPath:
		p, content = r.keySet, map[string]any{"keys": r.keys}
	default:
		http.NotFound(w, req)
		return
	}
	if p.body == nil {
		p.body, _ = json.Marshal(content)
	}
	maps.Copy(w.Header(), p.header)
	w.Header().Set("Content-Length", strconv.Itoa(len(p.body)))
	w.WriteHeader(p.status)
	w.Write(p.body)
}

// serve listens for r on an address of 127.0.0.0/8, all replicas on the same
// port.
func (r *rig) serve() string {
	r.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	s := &http.Server{Handler: r, TLSConfig: r.tls, ErrorLog: log.New(io.Discard, "", 0)}
	go s.ServeTLS(listener{l}, "", "")
	r.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// check serves r, unless it has replicas, and checks it.
func (r *rig) check() (*check.Report, error) {
	r.Helper()
	replicas := r.replicas
	if replicas == nil {
		replicas = []*rig{r}
	}
	if r.options.ConnectTo == nil {
		r.options.ConnectTo = map[string][]string{}
	}
	target := "oidc.example.com:443"
	if strings.HasSuffix(r.issuer, ":8443") {
		target = "oidc.example.com:8443"
	}
	for _, replica := range replicas {
		r.options.ConnectTo[target] = append(r.options.ConnectTo[target], replica.serve())
	}
	r.options.Issuer = r.issuer
	return check.Run(context.Background(), r.options)
}
