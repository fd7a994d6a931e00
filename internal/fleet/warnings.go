package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"

	"oidc-provider/discovery"
	"oidc-provider/internal/certs"
	"oidc-provider/internal/config"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/kube"
	"oidc-provider/internal/mirror"
	"oidc-provider/internal/store"
)

// Warnings returns what relying parties may not accept in a valid configuration,
// and which files that it names cannot be used on this machine. It sends nothing
// over the network.
func Warnings(ctx context.Context, cfg *config.Config, issuers []config.Issuer) (warnings []error) {
	if t := cfg.TLS; t != nil && t.ACME == nil {
		if _, err := certs.Load(t.CertFile, t.KeyFile); err != nil {
			warnings = append(warnings, err)
		}
	}
	for i := range issuers {
		warnings = append(warnings, issuerWarnings(ctx, &issuers[i])...)
	}
	return warnings
}

// unreachable returns an error if only a proxy on this machine lets relying parties
// on others fetch the documents of an issuer.
func unreachable(cfg *config.Config, issuers []config.Issuer) error {
	host, _, _ := net.SplitHostPort(cfg.Listen)
	if cfg.TLS != nil || !discovery.Loopback(host) {
		return nil
	}
	for _, i := range issuers {
		issuer, err := discovery.ParseIssuer(i.Issuer)
		if err != nil {
			continue
		}
		if u := issuer.URL(); u.Scheme == "https" && !discovery.Loopback(u.Hostname()) {
			return hint.Errorf("put a proxy in front, or set {listen} and {tls.certFile}",
				"relying parties on other machines cannot reach %s at %s", i.Issuer, cfg.Listen)
		}
	}
	return nil
}

func issuerWarnings(ctx context.Context, i *config.Issuer) (warnings []error) {
	add := func(err error) {
		if err != nil {
			warnings = append(warnings, fmt.Errorf("issuer %q: %w", i.Issuer, err))
		}
	}
	issuer, _ := discovery.ParseIssuer(i.Issuer) // it was checked when the file was read
	for _, w := range issuer.Warnings() {
		warnings = append(warnings, errors.New(w)) // it names the issuer
	}
	switch {
	case i.Managed != nil:
		for _, w := range i.Managed.Policy.Rotation().Warnings() {
			add(errors.New(w))
		}
		s, err := store.Open(i.Managed.Config)
		if err == nil {
			s.Close()
		}
		add(err)
	case i.APIServer != nil:
		_, err := kube.LimitedConfig(i.APIServer.Kubeconfig, i.APIServer.Context, i.APIServer.KubeLimits)
		add(err)
	case i.Files != nil:
		files, err := mirror.NewFiles(i.Files.Paths)
		if err == nil {
			_, _, err = files.Fetch(ctx)
		}
		add(err)
	}
	return warnings
}
