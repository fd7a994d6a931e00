package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"oidc-provider/internal/config"
	"oidc-provider/internal/fleet"
	"oidc-provider/internal/hint"
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
			cfg, issuers, err := config.LoadAll(args[0])
			if err != nil {
				return err
			}
			for _, w := range fleet.Warnings(cmd.Context(), cfg, issuers) {
				warn(cmd, "%s", hint.Text(w, hint.Field))
			}
			summary := config.Summarize(cfg, issuers)
			if output.structured() {
				return output.write(cmd.OutOrStdout(), summary)
			}
			return printConfig(cmd.OutOrStdout(), summary)
		},
	}
	output.add(cmd, "table")
	return cmd
}

func printConfig(out io.Writer, s config.Summary) error {
	tls := map[string]string{
		"none":  "http: a proxy in front must speak https",
		"files": "https with certificate files",
		"acme":  "https with certificates by ACME",
	}
	fmt.Fprintf(out, "Documents at %s, %s. Health and metrics at http://%s.\n\n", s.Listen, tls[s.TLS], s.AdminListen)
	var rows [][]string
	for _, i := range s.Issuers {
		rows = append(rows, []string{i.Issuer, i.Source, i.From})
	}
	return writeTable(out, []string{"ISSUER", "SOURCE", "FROM"}, rows)
}
