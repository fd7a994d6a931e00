package kube

import (
	"k8s.io/client-go/rest"

	"oidc-provider/internal/filemode"
	"oidc-provider/internal/hint"
)

// Limits are for a kubeconfig whose author is trusted less than this process. Nil
// allows everything.
type Limits struct {
	// Roots are the directories that the kubeconfig and the files that it names
	// must be in. Files are read when this process connects.
	Roots []string

	// Programs allows exec, which runs a program as this process, and an
	// auth-provider, which sends credentials to a server.
	Programs bool
}

// check returns an error if cfg, of the file kubeconfig, is beyond l. The default
// kubeconfig is that of this process.
func (l *Limits) check(cfg *rest.Config, kubeconfig string) error {
	if l == nil || kubeconfig == "" {
		return nil
	}
	if !l.Programs && (cfg.ExecProvider != nil || cfg.AuthProvider != nil) {
		return hint.Errorf("use a token or a client certificate, or allow it with {issuersDirAllow.programs} in the main "+
			"configuration file", "kubeconfig %s: neither exec nor an auth-provider is allowed for an issuer of issuersDir",
			kubeconfig)
	}
	boundary, err := filemode.NewBoundary(l.Roots)
	if err != nil {
		return err
	}
	for _, path := range []string{kubeconfig, cfg.BearerTokenFile, cfg.CAFile, cfg.CertFile, cfg.KeyFile} {
		if path == "" {
			continue
		}
		within, err := boundary.Contains(path)
		if err != nil {
			return err
		}
		if !within {
			return hint.Errorf("add its directory to {issuersDirAllow.roots} in the main configuration file",
				"kubeconfig %s: %s is in no directory that issuers of issuersDir may use", kubeconfig, path)
		}
	}
	return nil
}
