package secret

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/kube"
)

// New returns the store in the Secret name of namespace. Neither has to exist yet. New
// sends no request.
func New(cfg *rest.Config, namespace, name string) (*Store, error) {
	if err := validate(namespace, name); err != nil {
		return nil, err
	}
	server, err := kube.Connect(cfg)
	if err != nil {
		return nil, err
	}
	s := &Store{namespace: namespace, name: name, server: server}
	s.noteDates()
	if s.client, err = restClient(cfg, server); err != nil {
		return nil, hint.Errorf("check the kubeconfig", "connecting to the API server: %w", err)
	}
	return s, nil
}

func restClient(cfg *rest.Config, server *kube.Server) (*rest.RESTClient, error) {
	// The scheme contains only core/v1. The scheme of the typed clientset has every
	// API group, and costs megabytes and milliseconds at each start.
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath = "/api"
	cfg.ContentConfig = rest.ContentConfig{
		AcceptContentTypes:   runtime.ContentTypeJSON,
		ContentType:          runtime.ContentTypeJSON,
		GroupVersion:         &corev1.SchemeGroupVersion,
		NegotiatedSerializer: serializer.NewCodecFactory(scheme).WithoutConversion(),
	}
	cfg.QPS, cfg.RateLimiter = -1, nil // no limit: a rotation must not wait
	cfg.WarningHandler, cfg.WarningHandlerWithContext = nil, rest.NoWarnings{}
	// The client of server has no Timeout: it would end the watch.
	return rest.RESTClientForConfigAndClient(cfg, server.Client)
}

const hintSpec = "use secret:namespace/name"

// Parse parses secret:namespace/name.
func Parse(spec string) (namespace, name string, err error) {
	path, ok := strings.CutPrefix(spec, "secret:")
	if ok {
		namespace, name, ok = strings.Cut(path, "/")
	}
	if !ok {
		return "", "", hint.Errorf(hintSpec, "store %q does not name a Secret", spec)
	}
	if err := validate(namespace, name); err != nil {
		return "", "", fmt.Errorf("store %q: %w", spec, err)
	}
	return namespace, name, nil
}

func validate(namespace, name string) error {
	if wrong := validation.IsDNS1123Label(namespace); wrong != nil {
		return hint.Errorf(hintSpec, "%q is not a valid name of a namespace: %s", namespace, wrong[0])
	}
	if wrong := validation.IsDNS1123Subdomain(name); wrong != nil {
		return hint.Errorf(hintSpec, "%q is not a valid name of a Secret: %s", name, wrong[0])
	}
	return nil
}
