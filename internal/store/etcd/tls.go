package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
)

// clientCertificate begins the error of a client certificate that cannot be
// loaded. gRPC keeps only the text of errors in a handshake, and so hintFor
// recognizes the error by it.
const clientCertificate = "client certificate for etcd, "

// TLSConfig returns the configuration for connections to etcd servers whose
// certificates are signed by a CA in caFile (default the system's CAs). The
// client certificate in certFile and its key are optional. They are read again
// for every connection, so that they can be renewed in place; the CAs are read
// once. kubeadm has all three in /etc/kubernetes/pki/etcd: ca.crt,
// healthcheck-client.crt and healthcheck-client.key.
func TLSConfig(caFile, certFile, keyFile string) (*tls.Config, error) {
	roots, err := httpclient.CAPool(caFile)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("CA of etcd: %w", err),
			"set {etcd.caFile} to a PEM file with the CA of etcd; kubeadm's is /etc/kubernetes/pki/etcd/ca.crt")
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if (certFile == "") != (keyFile == "") {
		return nil, hint.Errorf("set both {etcd.certFile} and {etcd.keyFile}",
			"client certificate for etcd: a certificate without a key, or the reverse")
	}
	if certFile == "" {
		return cfg, nil
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			err = fmt.Errorf(clientCertificate+"%s with key %s: %w", certFile, keyFile, err)
			return nil, hint.Wrap(err, hintFor(err.Error()))
		}
		return &cert, nil
	}
	if _, err := cfg.GetClientCertificate(nil); err != nil {
		return nil, err
	}
	return cfg, nil
}

// alert returns the TLS alert of a member that refused the client certificate, if
// that may be the cause of err, and nil otherwise. With TLS 1.3 the alert arrives
// after the handshake, while the first request is being written, and a failed
// write does not read it. So alert connects again and only reads.
func (m *member) alert(ctx context.Context, err error) error {
	text := err.Error()
	if m.cfg.TLS == nil || !strings.Contains(text, "broken pipe") && !strings.Contains(text, "connection reset") {
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
