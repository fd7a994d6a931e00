package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
	"oidc-provider/internal/kube"
	"oidc-provider/jwks"
)

// An apiServer is a kube-apiserver that signs with its own keys.
type apiServer struct {
	kubeconfig, context, issuer string
	limits                      *kube.Limits

	url atomic.Pointer[string] // nil until the kubeconfig has been read

	// server is nil until the next fetch, and after a fetch that failed: the
	// kubeconfig, a CA or a token may have been replaced.
	server *kube.Server
}

// NewAPIServer returns the kube-apiserver that [kube.LimitedConfig] finds, which must
// have that issuer. The limits are for the kubeconfig. It reads nothing: Fetch returns the error of a kubeconfig that
// cannot be read.
//
// The key set comes from the API server itself, and not from the jwks_uri in its
// discovery document. Relying parties follow that, usually to this program.
func NewAPIServer(kubeconfig, context, issuer string, limits *kube.Limits) (Source, error) {
	if issuer == "" {
		return nil, hint.Wrap(errors.New("kube-apiserver as a source of keys: no issuer"),
			"set {issuer} to the first --service-account-issuer of that API server")
	}
	return &apiServer{kubeconfig: kubeconfig, context: context, issuer: issuer, limits: limits}, nil
}

func (s *apiServer) String() string {
	switch url := s.url.Load(); {
	case url != nil:
		return "kube-apiserver " + *url
	case s.kubeconfig != "":
		return "kube-apiserver of " + s.kubeconfig
	}
	return "kube-apiserver"
}

// Fetch implements [Source].
func (s *apiServer) Fetch(ctx context.Context) (keys []jwks.PublicKey, skipped []error, err error) {
	if s.server == nil {
		if err := s.connect(); err != nil {
			return nil, nil, err
		}
	}
	keys, skipped, err = s.fetch(ctx)
	if err != nil {
		s.server.CloseConnections()
		s.server = nil
	}
	return keys, skipped, err
}

func (s *apiServer) connect() error {
	if s.kubeconfig != "" { // opening a pipe would hang
		if err := input.CheckRegular(s.kubeconfig); err != nil {
			return err
		}
	}
	cfg, err := kube.LimitedConfig(s.kubeconfig, s.context, s.limits)
	if err != nil {
		return err
	}
	if s.server, err = kube.Connect(cfg); err != nil {
		return err
	}
	url := s.server.URL()
	s.url.Store(&url)
	return nil
}

func (s *apiServer) fetch(ctx context.Context) ([]jwks.PublicKey, []error, error) {
	issuer, err := s.server.Issuer(ctx)
	if err != nil {
		return nil, nil, err
	}
	if issuer != s.issuer {
		return nil, nil, hint.Errorf("{issuer} must be the first --service-account-issuer of the API server, "+
			"byte for byte; is it the right cluster?", "its issuer is %.256q, not %q", issuer, s.issuer)
	}
	data, err := s.server.Document(ctx, discovery.JWKSPath)
	if err != nil {
		return nil, nil, err
	}
	keys, skipped, err := parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", discovery.JWKSPath, err)
	}
	return keys, skipped, nil
}
