package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/discovery"
	"oidc-provider/internal/certs"
	"oidc-provider/internal/config"
	"oidc-provider/internal/kube"
	"oidc-provider/internal/mirror"
	"oidc-provider/internal/store"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Write and check the configuration file of serve",
		Args:  exactArgs(),
		RunE:  showHelp,
	}
	cmd.AddCommand(newConfigCheckCommand(), newConfigExampleCommand(), newConfigSchemaCommand())
	return cmd
}

func newConfigExampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "example",
		Short: "Print a configuration file with a comment to every field",
		Example: `  oidc-provider config example > config.yaml
  oidc-provider serve --config config.yaml`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Example)
			return err
		},
	}
}

func newConfigSchemaCommand() *cobra.Command {
	var issuer bool
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a configuration file, for editors",
		Example: `  oidc-provider config schema > config.schema.json
  # then, in the first line of config.yaml:
  # yaml-language-server: $schema=config.schema.json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema(issuer)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", schema)
			return err
		},
	}
	cmd.Flags().BoolVar(&issuer, "issuer", false, "of a file in issuersDir")
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Tell whether a configuration file makes sense, and what it means",
		Long: `Tell whether a configuration file makes sense, and what it means: each issuer,
where its keys come from and where its documents will be. The files of its
issuersDir are read as well. Everything that is wrong is told at once, with its
line, and the exit status is 1.

Files that it names and that cannot be used here, and what relying parties may
not accept, is told as a warning: it may be another machine that serves. Nothing
is sent over the network.`,
		Example: `  oidc-provider config check /etc/oidc-provider/config.yaml
  oidc-provider config check config.yaml -o json | jq '.issuers[].issuer'`,
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, issuers, err := loadAll(args[0])
			if err != nil {
				return err
			}
			for _, w := range configWarnings(cmd.Context(), cfg, issuers) {
				warn(cmd, "%s", w)
			}
			info := configInfo{Listen: cfg.Listen, AdminListen: cfg.AdminListen, TLS: tlsKind(cfg), Issuers: []issuerInfo{}}
			for i := range issuers {
				info.Issuers = append(info.Issuers, describeIssuer(&issuers[i]))
			}
			if output.structured() {
				return output.write(cmd.OutOrStdout(), info)
			}
			return printConfig(cmd, info)
		},
	}
	output.add(cmd, "table")
	return cmd
}

// loadAll reads a configuration file with the files of its issuersDir. Every
// problem is an error.
func loadAll(file string) (*config.Config, []config.Issuer, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, nil, err
	}
	dir := config.NewDir(cfg)
	dir.Scan(time.Now(), true)
	issuers, problems := dir.Issuers()
	return cfg, issuers, errors.Join(problems...)
}

// configInfo is a configuration as `config check -o json` shows it.
type configInfo struct {
	Listen      string       `json:"listen"`
	AdminListen string       `json:"adminListen"`
	TLS         string       `json:"tls"` // none, files or acme
	Issuers     []issuerInfo `json:"issuers"`
}

type issuerInfo struct {
	Issuer       string `json:"issuer"`
	Source       string `json:"source"` // managed, apiserver, files or url
	From         string `json:"from"`
	DiscoveryURL string `json:"discoveryURL"`
	JWKSURI      string `json:"jwksURI"`
}

func tlsKind(cfg *config.Config) string {
	switch {
	case cfg.TLS == nil:
		return "none"
	case cfg.TLS.ACME != nil:
		return "acme"
	}
	return "files"
}

func describeIssuer(cfg *config.Issuer) issuerInfo {
	issuer, _ := discovery.ParseIssuer(cfg.Issuer) // config has checked it
	info := issuerInfo{Issuer: cfg.Issuer, DiscoveryURL: issuer.DiscoveryURL(), JWKSURI: issuer.JWKSURI()}
	switch {
	case cfg.Managed != nil:
		info.Source, info.From = "managed", cfg.Managed.Store
		if cfg.Managed.SignerSocket != "" {
			info.From += ", signs on " + cfg.Managed.SignerSocket
		}
	case cfg.APIServer != nil:
		info.Source, info.From = "apiserver", cmp.Or(cfg.APIServer.Kubeconfig, "the cluster around, or $KUBECONFIG")
		if cfg.APIServer.Context != "" {
			info.From += ", context " + cfg.APIServer.Context
		}
	case cfg.Files != nil:
		info.Source, info.From = "files", strings.Join(cfg.Files.Paths, ", ")
	case cfg.URL != nil:
		info.Source, info.From = "url", cfg.URL.JWKS
	}
	return info
}

func printConfig(cmd *cobra.Command, info configInfo) error {
	tls := map[string]string{"none": "http: a proxy in front must speak https", "files": "https with certificate files", "acme": "https with certificates by ACME"}
	fmt.Fprintf(cmd.OutOrStdout(), "Documents at %s, %s. Health and metrics at http://%s.\n\n", info.Listen, tls[info.TLS], info.AdminListen)
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ISSUER\tSOURCE\tFROM")
	for _, i := range info.Issuers {
		fmt.Fprintf(w, "%s\t%s\t%s\n", i.Issuer, i.Source, i.From)
	}
	return w.Flush()
}

// configWarnings are about what relying parties may not accept, and about what
// is not there on this machine.
func configWarnings(ctx context.Context, cfg *config.Config, issuers []config.Issuer) (warnings []string) {
	add := func(prefix string, err error) {
		if err != nil {
			warnings = append(warnings, prefix+err.Error())
		}
	}
	if t := cfg.TLS; t != nil && t.ACME == nil {
		_, err := certs.Load(t.CertFile, t.KeyFile)
		add("", err)
	}
	for i := range issuers {
		cfg := &issuers[i]
		issuer, _ := discovery.ParseIssuer(cfg.Issuer)
		warnings = append(warnings, issuer.Warnings()...)
		prefix := fmt.Sprintf("issuer %q: ", cfg.Issuer)
		switch {
		case cfg.Managed != nil:
			for _, w := range cfg.Managed.Policy.Rotation().Warnings() {
				warnings = append(warnings, prefix+w)
			}
			s, err := store.Open(cfg.Managed.Config)
			if err == nil {
				s.Close()
			}
			add(prefix, err)
		case cfg.APIServer != nil:
			_, err := kube.Config(cfg.APIServer.Kubeconfig, cfg.APIServer.Context)
			add(prefix, err)
		case cfg.Files != nil:
			files, err := mirror.NewFiles(cfg.Files.Paths)
			if err == nil {
				_, _, err = files.Fetch(ctx)
			}
			add(prefix, err)
		}
	}
	return warnings
}
