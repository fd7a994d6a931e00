package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/internal/check"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/trust"
)

func newTrustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Print what makes a relying party trust an issuer",
		Long: `Print what makes a relying party trust an issuer, ours or any other, and gives
access to one ServiceAccount: commands to run, Terraform, configuration, and a
Pod that proves it. This command itself changes nothing.

It first asks the issuer, as ` + "`oidc-provider check`" + ` does for that relying party.
If a check fails that matters to it, only that failure is printed.`,
		Args: exactArgs(),
		RunE: showHelp,
	}
	cmd.AddCommand(newTrustAWSCommand(), newTrustGCPCommand(), newTrustAzureCommand(), newTrustVaultCommand(),
		newTrustKubernetesCommand(), newTrustGenericCommand())
	return cmd
}

// A trustCommand is what the commands of all relying parties share.
type trustCommand struct {
	setup  trust.Setup
	facts  *trust.Facts // of setup
	issuer string
	format string
	force  bool
	ask    askFlags
}

func newTrust(setup trust.Setup, facts *trust.Facts) *trustCommand {
	return &trustCommand{setup: setup, facts: facts}
}

// command completes cmd, which has the texts for one relying party. flags adds
// the flags that only that one has.
func (t *trustCommand) command(cmd *cobra.Command, flags func(*pflag.FlagSet)) *cobra.Command {
	target := t.setup.Target()
	cmd.Use = target.Name + " --issuer URL"
	cmd.Args = exactArgs()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return t.run(cmd) }
	f := cmd.Flags()
	f.StringVar(&t.issuer, "issuer", "", "the issuer `URL` to trust, exactly as in the tokens (required)")
	f.StringVar(&t.format, "format", target.Formats[0], "`FORMAT` to print: "+strings.Join(target.Formats, ", "))
	f.StringVarP(&t.facts.Namespace, "namespace", "n", "default", "`NAMESPACE` of the ServiceAccount to give access to")
	f.StringVar(&t.facts.ServiceAccount, "service-account", "default", "`NAME` of the ServiceAccount to give access to")
	f.StringVar(&t.facts.Audience, "audience", target.Audience, "`AUDIENCE` of its tokens")
	f.BoolVar(&t.force, "force", false, "print it even if the checks find that it will not work")
	t.ask.add(f)
	flags(f)
	cmd.RegisterFlagCompletionFunc("format",
		cobra.FixedCompletions(target.Formats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (t *trustCommand) run(cmd *cobra.Command) error {
	if t.issuer == "" {
		return hint.Errorf("name the issuer whose tokens are to be trusted", "--issuer is required")
	}
	var err error
	if t.facts.Issuer, err = discovery.ParseIssuer(t.issuer); err != nil {
		return err
	}
	options, err := t.ask.options(t.issuer)
	if err != nil {
		return err
	}
	if t.ask.caFile != "" {
		if t.facts.CA, err = os.ReadFile(t.ask.caFile); err != nil {
			return fmt.Errorf("--ca-file: %w", err)
		}
	}
	if err := trust.Validate(t.setup, t.format); err != nil {
		return err
	}
	if !cmd.Flags().Changed("service-account") {
		warnError(cmd, trust.WideAccess(t.setup, t.format))
	}
	options.Parties = trust.Parties(t.setup)
	if err := t.look(cmd, options); err != nil {
		return err
	}
	text, err := trust.Render(t.setup, t.format)
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(text)
	return err
}

// look asks the issuer, reports on stderr what is wrong with it, and takes from
// the answers what the set-up needs.
func (t *trustCommand) look(cmd *cobra.Command, options check.Options) error {
	report, err := runCheck(cmd.Context(), options)
	switch {
	case report == nil:
		return err
	case err != nil && !t.force && trust.AsksIssuer(t.setup):
		return hint.Wrap(err, "--connect-to names another address to ask, --force prints what needs no answer")
	case err != nil:
		warnError(cmd, err)
	default:
		if failed := t.printFindings(cmd, report); failed > 0 && !t.force {
			return hint.Errorf("--force prints it anyway", "nothing is printed: %s would not trust %s as it is now",
				t.setup.Target().Name, t.issuer)
		}
	}
	for _, w := range trust.Observe(t.setup, report) {
		warnError(cmd, w)
	}
	return nil
}

// printFindings prints warnings and failures, and returns the number of
// failures.
func (t *trustCommand) printFindings(cmd *cobra.Command, report *check.Report) (failed int) {
	for _, r := range trust.Findings(t.setup, report) {
		printResult(cmd.ErrOrStderr(), colours(cmd.ErrOrStderr()), r)
		if r.Status == check.Fail {
			failed++
		}
	}
	return failed
}
