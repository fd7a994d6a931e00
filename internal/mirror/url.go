package mirror

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
	"oidc-provider/jwks"
)

// A URL is a key set that an HTTP server publishes.
type URL struct {
	url    *url.URL
	caFile string
	client *http.Client // nil until the next fetch, and after a fetch that failed
}

// NewURL returns the key set at raw, which is https, or http on a loopback host.
// The server's certificate must be signed by a CA in the PEM file caFile (default:
// the system's CAs). The file is read again after a fetch that failed.
func NewURL(raw, caFile string) (*URL, error) {
	u, err := url.Parse(raw)
	const https = "use https"
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, hint.Wrap(errors.New("not a valid URL of a key set"), // it may contain a password
			"use a URL like https://oidc.example.com"+discovery.JWKSPath)
	case u.User != nil:
		return nil, hint.Errorf("a key set is public: leave the user out",
			"URL of a key set at %s: user information is not allowed", u.Host)
	case u.Scheme == "http" && !discovery.Loopback(u.Hostname()):
		return nil, hint.Errorf(https, "URL of a key set at %s: http is for loopback hosts only, "+
			"since anyone on the network could replace the keys", u.Host)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, hint.Errorf(https, "URL of a key set at %s: scheme %q", u.Host, u.Scheme)
	}
	u.Fragment, u.RawFragment = "", ""
	return &URL{url: u, caFile: caFile}, nil
}

// String returns the URL without its query, which may be secret.
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
	data, err := httpclient.Get(ctx, s.client, s.url, maxDocument)
	if err == nil {
		keys, skipped, err = parse(data)
	}
	if err != nil {
		s.client.CloseIdleConnections()
		s.client = nil
	}
	return keys, skipped, err
}

func (s *URL) connect() (*http.Client, error) {
	roots, err := httpclient.RegularCAPool(s.caFile)
	if err != nil {
		return nil, err
	}
	transport := httpclient.Transport(roots)
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 1, 1
	transport.IdleConnTimeout = 2 * time.Minute
	return httpclient.New(transport), nil
}
