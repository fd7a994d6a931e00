// Package certs provides the TLS certificates of the public address: from two
// files, or from an ACME authority.
package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/internal/filewatch"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
)

// A Certificate is a TLS certificate and its key from two PEM files.
// [Certificate.Watch] reads them again when they change.
type Certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
	failure           atomic.Pointer[error] // why the files are invalid, nil if they are valid

	// Only the goroutine of Watch uses these. The contents are those of current.
	files           filewatch.Set
	certPEM, keyPEM []byte
}

// maxFile is far more than a certificate chain and a key need.
const maxFile = 1 << 20

// Load reads both files.
func Load(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	if _, err := c.reload(time.Now()); err != nil {
		return nil, err
	}
	return c, nil
}

// Watch checks the files for changes every second until ctx is done. A pair that
// is invalid, as while it is being replaced, changes nothing.
func (c *Certificate) Watch(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := c.reload(time.Now())
		if err == nil && time.Now().After(c.NotAfter()) {
			err = c.expired(c.NotAfter())
		}
		switch {
		case err == nil:
			c.failure.Store(nil)
			if changed {
				log.Info("picked up a new TLS certificate", "file", c.certFile, "expires", c.NotAfter())
			}
		case !c.knows(err):
			c.failure.Store(&err)
			log.Error("the TLS certificate cannot be renewed; keeping the old one", "err", err)
		}
	}
}

// knows reports whether err is the failure that was logged last.
func (c *Certificate) knows(err error) bool {
	failure := c.failure.Load()
	return failure != nil && (*failure).Error() == err.Error()
}

// reload reads the files if they have changed. If they are invalid it returns the
// reason with each call until they are valid.
func (c *Certificate) reload(now time.Time) (changed bool, err error) {
	if !c.files.Due([]string{c.certFile, c.keyFile}, now, 0) {
		return false, nil
	}
	defer func() {
		if err != nil {
			c.files.Forget()
		}
	}()
	certPEM, _, err := input.ReadFile(c.certFile, maxFile)
	if err != nil {
		return false, hint.Wrap(fmt.Errorf("TLS certificate: %w", err), "set {tls.certFile}")
	}
	keyPEM, _, err := input.ReadFile(c.keyFile, maxFile)
	if err != nil {
		return false, hint.Wrap(fmt.Errorf("TLS key: %w", err), "set {tls.keyFile}")
	}
	known := c.current.Load()
	if known != nil && bytes.Equal(certPEM, c.certPEM) && bytes.Equal(keyPEM, c.keyPEM) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return false, hint.Wrap(fmt.Errorf("TLS certificate %s with key %s: %w", c.certFile, c.keyFile, err),
			"{tls.certFile} and {tls.keyFile} name PEM files that belong together")
	}
	if known != nil && now.After(pair.Leaf.NotAfter) && now.Before(known.Leaf.NotAfter) {
		return false, c.expired(pair.Leaf.NotAfter)
	}
	c.certPEM, c.keyPEM = certPEM, keyPEM
	c.current.Store(&pair)
	return true, nil
}

func (c *Certificate) expired(at time.Time) error {
	return hint.Errorf("replace the files that {tls.certFile} and {tls.keyFile} name",
		"TLS certificate %s expired at %s", c.certFile, at.UTC().Format(time.RFC3339))
}

// NotAfter returns when the certificate in use expires.
func (c *Certificate) NotAfter() time.Time { return c.current.Load().Leaf.NotAfter }

// Status returns when the certificate in use expires, for readiness, and an error
// if it has expired or cannot be renewed.
func (c *Certificate) Status() (string, error) {
	expiry := c.NotAfter()
	if time.Now().After(expiry) {
		return "", c.expired(expiry)
	}
	detail := "expires at " + expiry.UTC().Format(time.RFC3339)
	if failure := c.failure.Load(); failure != nil {
		return "", fmt.Errorf("%s, and cannot be renewed: %w", detail, *failure)
	}
	return detail, nil
}

// Metric returns the time when the certificate in use expires.
func (c *Certificate) Metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "oidc_provider_tls_not_after_timestamp_seconds",
		Help: "Time when the TLS certificate expires.",
	}, func() float64 { return float64(c.NotAfter().Unix()) })
}

// TLSConfig serves the certificate in use, with TLS 1.2 or later.
func (c *Certificate) TLSConfig() *tls.Config {
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil }
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: get}
}
