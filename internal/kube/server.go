package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
)

const (
	connectTimeout = 10 * time.Second
	// maxDocument bounds a document: far above what any relying party reads.
	maxDocument = 1 << 20
)

// A Server is a connection to one API server.
type Server struct {
	// Client has the credentials, and neither follows redirects nor has a
	// timeout of its own.
	Client *http.Client

	base   *url.URL
	dialer *connrotation.Dialer
}

// Connect returns the API server of cfg. It sends nothing.
func Connect(cfg *rest.Config) (*Server, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = httpclient.UserAgent
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	dialer := connrotation.NewDialer(cfg.Dial)
	cfg.Dial = dialer.DialContext
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, connecting(err)
	}
	asks := cfg.AuthProvider != nil || cfg.ExecProvider != nil
	if err := useAuthProvider(cfg); err != nil {
		return nil, connecting(err)
	}
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, connecting(err)
	}
	if asks {
		transport = endWithContext(transport)
	}
	return &Server{Client: httpclient.New(transport), base: base, dialer: dialer}, nil
}

// Host returns the host and the port of the server, if it has one.
func (s *Server) Host() string { return s.base.Host }

// URL returns the URL of the server without its path.
func (s *Server) URL() string { return s.base.Scheme + "://" + s.base.Host }

// CloseConnections closes all connections, also those that TCP or HTTP/2 would
// believe in for minutes though the server is gone.
func (s *Server) CloseConnections() { s.dialer.CloseAll() }

// errForeign is an answer that is not a discovery document.
var errForeign = errors.New("not a discovery document")

// Issuer returns the issuer that is named in the discovery document of the API
// server itself: the one whose tokens that cluster accepts.
func (s *Server) Issuer(ctx context.Context) (string, error) {
	data, err := s.Document(ctx, discovery.WellKnown)
	if err != nil {
		return "", err
	}
	var metadata struct{ Issuer string }
	if err := json.Unmarshal(data, &metadata); err != nil || metadata.Issuer == "" {
		return "", hint.Wrap(fmt.Errorf("%s: %w", discovery.WellKnown, errForeign), HintForeign)
	}
	return metadata.Issuer, nil
}

// Document returns one of the two documents of the issuer of the API server: at
// [discovery.WellKnown] or [discovery.JWKSPath]. Errors contain nothing that was
// read.
func (s *Server) Document(ctx context.Context, path string) ([]byte, error) {
	data, err := httpclient.Get(ctx, s.Client, s.base.JoinPath(path), maxDocument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, documentFailure(err))
	}
	return data, nil
}
