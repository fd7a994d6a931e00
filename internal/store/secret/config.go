package secret

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"
)

// New is the store in the Secret name of namespace. Neither has to exist yet.
// It sends no request.
func New(cfg *rest.Config, namespace, name string) (*Store, error) {
	if err := validate(namespace, name); err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: readTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	dialer := connrotation.NewDialer(cfg.Dial)
	cfg.Dial = dialer.DialContext
	client, err := restClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w (hint: check the kubeconfig)", err)
	}
	return &Store{namespace: namespace, name: name, host: client.Get().URL().Host, client: client, dialer: dialer}, nil
}

func restClient(cfg *rest.Config) (*rest.RESTClient, error) {
	// The scheme has core/v1 alone: that of the typed clientset registers every
	// API group, and costs megabytes and milliseconds at each start.
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	cfg.APIPath = "/api"
	cfg.ContentConfig = rest.ContentConfig{
		AcceptContentTypes:   runtime.ContentTypeJSON,
		ContentType:          runtime.ContentTypeJSON,
		GroupVersion:         &corev1.SchemeGroupVersion,
		NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
	}
	cfg.UserAgent = "oidc-provider"
	cfg.QPS, cfg.RateLimiter = -1, nil // no limit: a hand-over must not wait
	cfg.WarningHandler, cfg.WarningHandlerWithContext = nil, rest.NoWarnings{}
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, err
	}
	return rest.RESTClientForConfigAndClient(cfg, &http.Client{
		Transport: transport,
		// A redirect turns a PUT into a GET, whose success means nothing.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No Timeout: it would end the watch.
	})
}

// Parse takes a spec of the form "secret:namespace/name" apart.
func Parse(spec string) (namespace, name string, err error) {
	place, ok := strings.CutPrefix(spec, "secret:")
	if ok {
		namespace, name, ok = strings.Cut(place, "/")
	}
	if !ok {
		return "", "", fmt.Errorf("store %q: that names no Secret (hint: use secret:namespace/name)", spec)
	}
	if err := validate(namespace, name); err != nil {
		return "", "", fmt.Errorf("store %q: %w", spec, err)
	}
	return namespace, name, nil
}

func validate(namespace, name string) error {
	if wrong := validation.IsDNS1123Label(namespace); wrong != nil {
		return fmt.Errorf("%q is no name of a namespace: %s (hint: use secret:namespace/name)", namespace, wrong[0])
	}
	if wrong := validation.IsDNS1123Subdomain(name); wrong != nil {
		return fmt.Errorf("%q is no name of a Secret: %s (hint: use secret:namespace/name)", name, wrong[0])
	}
	return nil
}
