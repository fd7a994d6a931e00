package config

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"oidc-provider/discovery"
)

// LoadAll reads a configuration file with the files of its IssuersDir, each once.
// The configuration is nil if the file itself is invalid; issuers are those of
// every file that is valid, and the error has all problems.
func LoadAll(file string) (cfg *Config, issuers []Issuer, err error) {
	if cfg, err = Load(file); err != nil {
		return nil, nil, err
	}
	dir := NewDir(cfg)
	dir.Scan(time.Now(), true)
	issuers, problems := dir.Issuers()
	return cfg, issuers, errors.Join(problems...)
}

// A Summary is what a configuration means, for the output of a command.
type Summary struct {
	Listen      string          `json:"listen"`
	AdminListen string          `json:"adminListen"`
	TLS         string          `json:"tls"` // none, files or acme
	Issuers     []IssuerSummary `json:"issuers"`
}

// An IssuerSummary says where the keys of an issuer come from, and where its
// documents will be.
type IssuerSummary struct {
	Issuer       string `json:"issuer"`
	Source       string `json:"source"` // managed, apiserver, files or url
	From         string `json:"from"`
	DiscoveryURL string `json:"discoveryURL"`
	JWKSURI      string `json:"jwksURI"`
}

// Summarize returns the summary of a configuration with these issuers.
func Summarize(cfg *Config, issuers []Issuer) Summary {
	s := Summary{Listen: cfg.Listen, AdminListen: cfg.AdminListen, TLS: cfg.tlsKind(), Issuers: []IssuerSummary{}}
	for i := range issuers {
		s.Issuers = append(s.Issuers, issuers[i].summary())
	}
	return s
}

func (c *Config) tlsKind() string {
	switch {
	case c.TLS == nil:
		return "none"
	case c.TLS.ACME != nil:
		return "acme"
	}
	return "files"
}

func (i *Issuer) summary() IssuerSummary {
	issuer, _ := discovery.ParseIssuer(i.Issuer) // it was checked when the file was read
	s := IssuerSummary{Issuer: i.Issuer, DiscoveryURL: issuer.DiscoveryURL(), JWKSURI: issuer.JWKSURI()}
	switch {
	case i.Managed != nil:
		s.Source, s.From = "managed", i.Managed.Store
		if i.Managed.SignerSocket != "" {
			s.From += ", signs on " + i.Managed.SignerSocket
		}
	case i.APIServer != nil:
		s.Source, s.From = "apiserver", cmp.Or(i.APIServer.Kubeconfig, "the cluster that it runs in, or $KUBECONFIG")
		if i.APIServer.Context != "" {
			s.From += ", context " + i.APIServer.Context
		}
	case i.Files != nil:
		s.Source, s.From = "files", strings.Join(i.Files.Paths, ", ")
	case i.URL != nil:
		s.Source, s.From = "url", i.URL.JWKS
	}
	return s
}
