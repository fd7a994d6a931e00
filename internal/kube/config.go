// Package kube finds Kubernetes API servers.
package kube

import (
	"errors"
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// client-go logs to stderr in a form of its own. What matters comes back as an
// error as well.
func init() { klog.SetLogger(klog.Logger{}) }

// Config finds the API server and credentials as kubectl does: in the file
// kubeconfig if that is not empty, else in those of $KUBECONFIG, else in
// ~/.kube/config, else those of the Pod that this runs in. An empty context is
// the file's current one.
func Config(kubeconfig, context string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: context}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err), err == nil && cfg.Host == "":
		return nil, errors.New("looking for a Kubernetes API server: no kubeconfig names one, and this is no Pod with a service account (hint: use --kubeconfig FILE or $KUBECONFIG; if the file has no current-context, --context NAME)")
	case err != nil && kubeconfig != "":
		return nil, fmt.Errorf("reading the kubeconfig %s: %w (hint: check --kubeconfig and --context with `kubectl config get-contexts`)", kubeconfig, err)
	case err != nil:
		return nil, fmt.Errorf("reading the kubeconfig: %w (hint: check $KUBECONFIG and --context with `kubectl config get-contexts`)", err)
	}
	return cfg, nil
}
