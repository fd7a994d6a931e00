package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "oidc-provider",
		Short: "The OpenID Connect issuer of a Kubernetes cluster's ServiceAccount tokens",
		Long: `oidc-provider publishes the OpenID Connect documents of a Kubernetes
ServiceAccount issuer, rotates its signing keys on a schedule, and signs tokens
for kube-apiserver, so that relying parties can verify them without asking
the API server.

Every flag but --force and --plain can also be set in the environment:
--max-token-lifetime is OIDC_PROVIDER_MAX_TOKEN_LIFETIME. A flag on the command
line wins.`,
		Example: `  # Serve an issuer with keys of its own, on this machine
  oidc-provider serve

  # Make a token and verify it as a relying party would
  oidc-provider token --audience demo | oidc-provider verify --issuer http://localhost:8080 --audience demo -`,
		Args:              exactArgs(),
		RunE:              showHelp,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: prepare,
	}
	root.SetFlagErrorFunc(flagError)
	root.Version = buildVersion().String()
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version of this program")
	root.AddCommand(newServeCommand(), newKeysCommand(), newTokenCommand(), newVerifyCommand(), newCheckCommand(),
		newTrustCommand(), newExportCommand(), newConfigCommand(), newProbeCommand(), newVersionCommand())
	return root
}

const variablePrefix = "OIDC_PROVIDER_"

func variable(f *pflag.Flag) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// notFromEnvironment reports whether a flag must be typed each time.
func notFromEnvironment(f *pflag.Flag) bool {
	return slices.Contains([]string{"help", "version", "force", "plain"}, f.Name)
}

// setFromEnvironment gives every flag that is not on the command line the
// value of its variable. An empty variable counts as none.
func setFromEnvironment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := variable(f)
		value := os.Getenv(name)
		if f.Changed || value == "" || notFromEnvironment(f) || err != nil {
			return
		}
		if e := flags.Set(f.Name, value); e != nil {
			err = fmt.Errorf("environment variable %s: %w", name, e)
			return
		}
		f.Annotations = map[string][]string{fromEnvironment: {name}}
	})
	return err
}

const fromEnvironment = "from-environment"

// typed reports whether a flag was given on the command line.
func typed(flags *pflag.FlagSet, name string) bool {
	f := flags.Lookup(name)
	return f.Changed && f.Annotations[fromEnvironment] == nil
}

// serviceVariable matches what Kubernetes puts into every Pod beside a Service
// of the name oidc-provider.
var serviceVariable = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)$`)

// warnOfUnknownVariables names variables that look like ours and set nothing:
// a typing error must be reported.
func warnOfUnknownVariables(cmd *cobra.Command) {
	known := make(map[string]bool)
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !notFromEnvironment(f) {
				known[variable(f)] = true
			}
		})
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(cmd.Root())
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name,
			variablePrefix) && !known[name] && !serviceVariable.MatchString(name) {
			warn(cmd, "the environment variable %s sets no flag", name)
		}
	}
}
