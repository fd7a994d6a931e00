package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"

	"oidc-provider/discovery"
	"oidc-provider/internal/kube"
	"oidc-provider/jwks"
)

// An apiServer is a kube-apiserver that signs with keys of its own.
type apiServer struct {
	kubeconfig, context, issuer string

	host atomic.Pointer[string] // known once the kubeconfig has been read

	// Nil until the next fetch, and after one that failed: it may have failed
	// because the kubeconfig, a CA or a token has been replaced.
	client *http.Client
	base   *url.URL
	dialer *connrotation.Dialer
}

// NewAPIServer is the kube-apiserver that [kube.Config] finds, which must have
// that issuer. It reads nothing yet: a kubeconfig that cannot be read is an
// error of Fetch.
//
// It asks for the key set at the API server itself, and not at the jwks_uri of
// its metadata, which is where relying parties are sent: mostly to us.
func NewAPIServer(kubeconfig, context, issuer string) (Source, error) {
	if issuer == "" {
		return nil, errors.New("kube-apiserver as a source of keys: no issuer (hint: it is the first --service-account-issuer of that API server)")
	}
	return &apiServer{kubeconfig: kubeconfig, context: context, issuer: issuer}, nil
}

func (s *apiServer) String() string {
	switch host := s.host.Load(); {
	case host != nil:
		return "kube-apiserver " + *host
	case s.kubeconfig != "":
		return "kube-apiserver of " + s.kubeconfig
	}
	return "kube-apiserver"
}

// Fetch implements [Source].
func (s *apiServer) Fetch(ctx context.Context) (keys []jwks.PublicKey, skipped []error, err error) {
	if s.client == nil {
		if err := s.connect(); err != nil {
			return nil, nil, err
		}
	}
	keys, skipped, err = s.fetch(ctx)
	if err != nil {
		// Also those connections that TCP or HTTP/2 would believe in for
		// minutes to come.
		s.dialer.CloseAll()
		s.client = nil
	}
	return keys, skipped, err
}

func (s *apiServer) connect() error {
	cfg, err := kube.Config(s.kubeconfig, s.context)
	if err != nil {
		return err
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: fetchTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	dialer := connrotation.NewDialer(cfg.Dial)
	cfg.Dial = dialer.DialContext
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return fmt.Errorf("the server in the kubeconfig: %w", err)
	}
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		return fmt.Errorf("credentials of the kubeconfig: %w", err)
	}
	host := base.Scheme + "://" + base.Host
	s.host.Store(&host)
	s.client, s.base, s.dialer = newClient(transport), base, dialer
	return nil
}

func (s *apiServer) fetch(ctx context.Context) ([]jwks.PublicKey, []error, error) {
	data, err := s.get(ctx, discovery.WellKnown)
	if err != nil {
		return nil, nil, err
	}
	var metadata struct{ Issuer string }
	if err := json.Unmarshal(data, &metadata); err != nil || metadata.Issuer == "" {
		return nil, nil, fmt.Errorf("%s: that is no provider metadata (hint: does the server in the kubeconfig lead to an API server?)", discovery.WellKnown)
	}
	if metadata.Issuer != s.issuer {
		return nil, nil, fmt.Errorf("its issuer is %.256q, not %q (hint: the issuer is the first --service-account-issuer of the API server, byte for byte; is it the right cluster?)", metadata.Issuer, s.issuer)
	}
	if data, err = s.get(ctx, discovery.JWKSPath); err != nil {
		return nil, nil, err
	}
	keys, skipped, err := jwks.Filter(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", discovery.JWKSPath, err)
	}
	return keys, skipped, nil
}

func (s *apiServer) get(ctx context.Context, path string) ([]byte, error) {
	data, err := get(ctx, s.client, s.base.JoinPath(path))
	if err == nil {
		return data, nil
	}
	var status *statusError
	hint := ""
	if errors.As(err, &status) {
		switch status.code {
		case http.StatusUnauthorized:
			hint = " (hint: it does not accept the credentials of the kubeconfig or service account: are they from that cluster, and not expired? without any, bind the ClusterRole system:service-account-issuer-discovery to the group system:unauthenticated)"
		case http.StatusForbidden:
			hint = " (hint: bind the ClusterRole system:service-account-issuer-discovery)"
		case http.StatusNotFound:
			hint = " (hint: it publishes its keys only if its --service-account-issuer is an https URL)"
		}
	}
	return nil, fmt.Errorf("%s: %w%s", path, err, hint)
}
