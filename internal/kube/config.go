// Package kube finds Kubernetes API servers, connects to them and reads the two
// documents of their issuer. It names what to do about the failures that all
// requests to an API server have in common.
package kube

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"oidc-provider/internal/hint"
)

// client-go logs to stderr in a form of its own. What matters is in its errors as
// well.
func init() { klog.SetLogger(klog.Logger{}) }

// Config finds the API server and credentials as kubectl does: in the file
// kubeconfig if that is not empty, else in those of $KUBECONFIG, else in
// ~/.kube/config, else those of the Pod that this runs in. If context is empty, it
// is the file's current one.
func Config(kubeconfig, context string) (*rest.Config, error) {
	return LimitedConfig(kubeconfig, context, nil)
}

// LimitedConfig is Config for a kubeconfig with limits.
func LimitedConfig(kubeconfig, context string, limits *Limits) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: context}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err), err == nil && cfg.Host == "":
		return nil, hint.Errorf("set {kubeconfig} or $KUBECONFIG; if the file has no current-context, set {context}",
			"looking for a Kubernetes API server: no kubeconfig names one, and this is not a Pod with a ServiceAccount")
	case err != nil && kubeconfig != "":
		return nil, hint.Errorf("check {kubeconfig} and {context} with `kubectl config get-contexts`",
			"reading the kubeconfig %s: %w", kubeconfig, err)
	case err != nil:
		return nil, hint.Errorf("check $KUBECONFIG and {context} with `kubectl config get-contexts`",
			"reading the kubeconfig: %w", err)
	}
	if err := limits.check(cfg, kubeconfig); err != nil {
		return nil, err
	}
	if err := checkAuthProvider(cfg.AuthProvider); err != nil {
		return nil, err
	}
	return cfg, nil
}

// connecting returns the error of a kubeconfig that names an API server or
// credentials that cannot be used.
func connecting(err error) error {
	return hint.Wrap(fmt.Errorf("connecting to the API server: %w", err), "check the kubeconfig")
}
