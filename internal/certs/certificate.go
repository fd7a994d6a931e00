// Package certs provides the TLS certificates of the public address: from two
// files, or from an ACME authority.
package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Certificate is a TLS certificate and its key from two PEM files, which
// [Certificate.Watch] reads again when they change.
type Certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
	failing           atomic.Pointer[error] // why the files cannot be used, nil if they can

	// The contents that current is made of belong to the watching goroutine.
	certPEM, keyPEM []byte
}

// Load reads both files.
func Load(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	if _, err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Watch looks for other files every second until ctx is done. A pair that
// cannot be used, as while it is being replaced, changes nothing.
func (c *Certificate) Watch(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	warned := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := c.reload()
		if err == nil && time.Now().After(c.NotAfter()) {
			err = fmt.Errorf("TLS certificate %s expired at %s", c.certFile, c.NotAfter().UTC().Format(time.RFC3339))
		}
		switch {
		case err == nil:
			c.failing.Store(nil)
			warned = ""
			if changed {
				log.Info("picked up a new TLS certificate", "file", c.certFile, "expires", c.current.Load().Leaf.NotAfter)
			}
		case err.Error() != warned:
			c.failing.Store(&err)
			warned = err.Error()
			log.Error("the TLS certificate cannot be renewed; the old one goes on", "err", err)
		}
	}
}

func (c *Certificate) reload() (changed bool, err error) {
	certPEM, err := os.ReadFile(c.certFile)
	if err != nil {
		return false, fmt.Errorf("TLS certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(c.keyFile)
	if err != nil {
		return false, fmt.Errorf("TLS key: %w", err)
	}
	known := c.current.Load()
	if known != nil && bytes.Equal(certPEM, c.certPEM) && bytes.Equal(keyPEM, c.keyPEM) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return false, fmt.Errorf("TLS certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	if now := time.Now(); known != nil && now.After(pair.Leaf.NotAfter) && now.Before(known.Leaf.NotAfter) {
		return false, fmt.Errorf("TLS certificate %s expired at %s", c.certFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	c.certPEM, c.keyPEM = certPEM, keyPEM
	c.current.Store(&pair)
	return true, nil
}

// NotAfter is when the certificate in use expires.
func (c *Certificate) NotAfter() time.Time { return c.current.Load().Leaf.NotAfter }

// Status returns when the certificate in use expires, for readiness, and an error
// if it has expired or cannot be renewed.
func (c *Certificate) Status() (string, error) {
	expiry := c.NotAfter().UTC().Format(time.RFC3339)
	if time.Now().After(c.NotAfter()) {
		return "", fmt.Errorf("expired at %s (hint: replace %s)", expiry, c.certFile)
	}
	if failure := c.failing.Load(); failure != nil {
		return "", fmt.Errorf("expires at %s, and cannot be renewed: %w", expiry, *failure)
	}
	return "expires at " + expiry, nil
}

// Metric is the time at which the certificate in use expires.
func (c *Certificate) Metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "oidc_provider_tls_not_after_timestamp_seconds",
		Help: "When the TLS certificate expires.",
	}, func() float64 { return float64(c.NotAfter().Unix()) })
}

// TLSConfig serves the certificate in use, with TLS 1.2 or later.
func (c *Certificate) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return c.current.Load(), nil
	}}
}
