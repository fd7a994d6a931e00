package mirror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"oidc-provider/jwks"
)

// A URL is a key set that somebody publishes.
type URL struct {
	url    *url.URL
	caFile string
	client *http.Client // nil until the next fetch, and after one that failed
}

// NewURL is the key set at raw, which is https, or http on a loopback host. The
// CA is that of the PEM file caFile, or the system's if that is empty; the file
// is read again after a fetch that failed.
func NewURL(raw, caFile string) (*URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("that is no URL of a key set (hint: it looks like https://oidc.example.com/openid/v1/jwks)")
	case u.User != nil:
		return nil, fmt.Errorf("URL of a key set at %s: user information is not allowed (hint: a key set is public)", u.Host)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("URL of a key set at %s: http is for loopback hosts only, since anybody on the way could put keys of his own in (hint: use https)", u.Host)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("URL of a key set at %s: scheme %q (hint: use https)", u.Host, u.Scheme)
	}
	u.Fragment, u.RawFragment = "", ""
	return &URL{url: u, caFile: caFile}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// String is the URL without its query.
func (s *URL) String() string {
	u := *s.url
	u.RawQuery, u.ForceQuery = "", false
	return u.String()
}

// Fetch implements [Source].
func (s *URL) Fetch(ctx context.Context) (keys []jwks.PublicKey, skipped []error, err error) {
	if s.client == nil {
		if s.client, err = s.connect(); err != nil {
			return nil, nil, err
		}
	}
	data, err := get(ctx, s.client, s.url)
	if err == nil {
		keys, skipped, err = jwks.Filter(data)
	}
	if err != nil {
		s.client.CloseIdleConnections()
		s.client = nil
	}
	return keys, skipped, err
}

func (s *URL) connect() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 1, 1
	transport.IdleConnTimeout = 2 * time.Minute
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if s.caFile != "" {
		pem, _, err := readRegular(s.caFile, maxDocument)
		if err != nil {
			return nil, fmt.Errorf("reading the CA: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading the CA: no certificate in PEM in %s", s.caFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	return newClient(transport), nil
}
