package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/internal/check"
	"oidc-provider/internal/trust"
)

func newTrustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Print what makes a relying party trust an issuer",
		Long: `Print what makes a relying party trust an issuer, ours or anybody's, and lets one
ServiceAccount in: commands to run, Terraform, configuration, and a Pod that
proves it. Nothing is changed anywhere.

The issuer is asked first, as ` + "`oidc-provider check`" + ` does for that relying party.
If something fails that it would stumble over, nothing is printed but that.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
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
	// parties are those that the issuer is judged for, and matters says which
	// results matter; nil stands for all.
	parties func() []string
	matters func(check.Result) bool
	// elsewhere, if there is one, reports whether the relying party does not ask
	// at the issuer, which then need not be reached from here either.
	elsewhere func() bool
	// seen, if there is one, takes more from what was seen than all do.
	seen func(*cobra.Command, *check.Observation) error
}

func newTrust(setup trust.Setup, facts *trust.Facts, party string) *trustCommand {
	return &trustCommand{setup: setup, facts: facts, parties: func() []string { return []string{party} }}
}

// command completes cmd, which has the words of one relying party. flags adds
// what only that has.
func (t *trustCommand) command(cmd *cobra.Command, flags func(*pflag.FlagSet)) *cobra.Command {
	target := t.setup.Target()
	cmd.Use = target.Name + " --issuer URL"
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return t.run(cmd) }
	f := cmd.Flags()
	f.StringVar(&t.issuer, "issuer", "", "the issuer to trust, as it stands in the tokens (required)")
	f.StringVar(&t.format, "format", target.Formats[0], "what to print: "+strings.Join(target.Formats, ", "))
	f.StringVarP(&t.facts.Namespace, "namespace", "n", "default", "namespace of the ServiceAccount to let in")
	f.StringVar(&t.facts.ServiceAccount, "service-account", "default", "name of the ServiceAccount to let in")
	f.StringVar(&t.facts.Audience, "audience", target.Audience, "whom its tokens are for")
	f.BoolVar(&t.force, "force", false, "print it even if the checks say that it will not work")
	t.ask.add(f)
	flags(f)
	return cmd
}

func (t *trustCommand) run(cmd *cobra.Command) error {
	if t.issuer == "" {
		return errors.New("--issuer is required: the one whose tokens are to be trusted")
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
	t.warnWide(cmd)
	options.Parties = t.parties()
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

// warnWide is for those who have not said whom to let in.
func (t *trustCommand) warnWide(cmd *cobra.Command) {
	switch k, kubernetes := t.setup.(*trust.Kubernetes); {
	case cmd.Flags().Changed("service-account"):
	case kubernetes && !k.Only && t.format != "pod":
		warn(cmd, "every ServiceAccount of %s is let in (hint: --service-account NAME lets in one alone)", t.issuer)
	default:
		warn(cmd, "the ServiceAccount %s of the namespace %s is that of every Pod there without one of its own (hint: --service-account NAME)", t.facts.ServiceAccount, t.facts.Namespace)
	}
}

// look asks the issuer, says on stderr what is wrong with it, and learns what
// the set-up needs.
func (t *trustCommand) look(cmd *cobra.Command, options check.Options) error {
	report, err := runCheck(cmd.Context(), options)
	switch {
	case report == nil:
		return err
	case err != nil && !t.force && (t.elsewhere == nil || !t.elsewhere()):
		return fmt.Errorf("%w (hint: --connect-to names another address to ask, --force prints what needs no answer)", err)
	case err != nil:
		warn(cmd, "%v", err)
	default:
		if failed := t.tell(cmd, report); failed > 0 && !t.force {
			return fmt.Errorf("nothing is printed: %s would not trust %s as it is (hint: --force prints it all the same)", t.setup.Target().Name, t.issuer)
		}
	}
	if !verified(report) {
		// It stands in no set-up, not even with --force: it would be trusted for good.
		warn(cmd, "the keys, the jwks_uri and the certificates that were seen may be anybody's, and are not used (hint: --ca-file FILE if the CA is your own)")
		return nil
	}
	t.facts.JWKSURI, t.facts.Keys = report.Seen.KeySet.URL, report.Seen.Keys()
	if t.seen != nil {
		return t.seen(cmd, report.Seen)
	}
	return nil
}

// verified reports whether no certificate was a stranger's.
func verified(report *check.Report) bool {
	return !slices.ContainsFunc(report.Results, func(r check.Result) bool {
		return r.Status == check.Fail && strings.HasSuffix(r.Check, "/certificate")
	})
}

// tell prints warnings and failures, and counts these.
func (t *trustCommand) tell(cmd *cobra.Command, report *check.Report) (failed int) {
	for _, r := range report.Results {
		if r.Status != check.Warn && r.Status != check.Fail || t.matters != nil && !t.matters(r) {
			continue
		}
		printResult(cmd.ErrOrStderr(), r)
		if r.Status == check.Fail {
			failed++
		}
	}
	return failed
}

// thumbprints are those of both documents' servers, each once.
func thumbprints(cmd *cobra.Command, seen *check.Observation) (all []string) {
	for _, d := range []*check.Document{&seen.Configuration, &seen.KeySet} {
		for i := range d.Answers {
			chain := d.Answers[i].Chain
			print := trust.Thumbprint(chain)
			if print == "" || slices.Contains(all, print) {
				continue
			}
			all = append(all, print)
			if len(chain) == 1 {
				warn(cmd, "%s sends no certificate but its own, so AWS IAM must be told the thumbprint of each new one (hint: let it send the chain of its CA as well)", d.URL)
			}
		}
	}
	return all
}
