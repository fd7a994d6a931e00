package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// A Certificate is a TLS certificate and its key from two PEM files, which
// [Certificate.Watch] reads again when they change.
type Certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]

	// The contents that current is made of belong to the watching goroutine.
	certPEM, keyPEM []byte
}

// LoadCertificate reads both files.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
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
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch changed, err := c.reload(); {
		case err == nil:
			failing = ""
			if changed {
				log.Info("picked up a new TLS certificate", "file", c.certFile, "expires", c.current.Load().Leaf.NotAfter)
			}
		case err.Error() != failing:
			failing = err.Error()
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
	if bytes.Equal(certPEM, c.certPEM) && bytes.Equal(keyPEM, c.keyPEM) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return false, fmt.Errorf("TLS certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.certPEM, c.keyPEM = certPEM, keyPEM
	c.current.Store(&pair)
	return true, nil
}

func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}
