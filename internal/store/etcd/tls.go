package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// TLSConfig is for connections to etcd servers whose certificates a CA in
// cafile has signed, by default one of the system's. The client certificate
// in certfile and its key are optional, and read again for every connection,
// so that they can be renewed in place; the CAs are read once. kubeadm has
// all three in /etc/kubernetes/pki/etcd: ca.crt, healthcheck-client.crt and
// healthcheck-client.key.
func TLSConfig(cafile, certfile, keyfile string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if cafile != "" {
		pem, err := os.ReadFile(cafile)
		if err != nil {
			return nil, fmt.Errorf("CA of etcd: %w (hint: --etcd-ca-file; kubeadm's is /etc/kubernetes/pki/etcd/ca.crt)", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA of etcd: %s has no certificate in PEM form (hint: --etcd-ca-file)", cafile)
		}
	}
	if (certfile == "") != (keyfile == "") {
		return nil, errors.New("client certificate for etcd: there is only one of certificate and key (hint: give both --etcd-cert-file and --etcd-key-file)")
	}
	if certfile == "" {
		return cfg, nil
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(certfile, keyfile)
		if err != nil {
			return nil, fmt.Errorf("client certificate for etcd, %s with key %s: %w (hint: --etcd-cert-file and --etcd-key-file; both are PEM files that this user must be able to read)", certfile, keyfile, err)
		}
		return &cert, nil
	}
	if _, err := cfg.GetClientCertificate(nil); err != nil {
		return nil, err
	}
	return cfg, nil
}

// alert is what the member has against the client certificate, if that may be
// what is behind err. With TLS 1.3 the alert comes after the handshake, when
// the first request is on its way, and whose writing fails does not read it.
// So this connects and says nothing.
func (m *member) alert(ctx context.Context, err error) error {
	if text := err.Error(); m.cfg.TLS == nil || !strings.Contains(text, "broken pipe") && !strings.Contains(text, "connection reset") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	dialer := tls.Dialer{Config: m.cfg.TLS}
	conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(m.endpoint, "https://"))
	if err != nil {
		return nil
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetReadDeadline(deadline)
	if _, err := conn.Read(make([]byte, 1)); err != nil && certificateRefused(err.Error()) {
		return err
	}
	return nil
}
