package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/check"
	"oidc-provider/internal/describe"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/signer"
)

func newCheckCommand() *cobra.Command {
	var c checkCommand
	cmd := &cobra.Command{
		Use:   "check ISSUER",
		Short: "Ask an issuer everything that relying parties ask, and report what is wrong",
		Long: `Ask a live issuer, ours or any other, everything that relying parties ask. Report
what is wrong, which relying parties it affects, and how to fix it. Only the
issuer URL is needed, exactly as in the tokens.

Each document is requested ten times, from every address of the host, over
HTTP/2, HTTP/1.1 and HTTP/1.0, with and without compression. Redirects are not
followed. A token, if given, is examined here and sent nowhere.

Failures and warnings come first. At the end there is a verdict for each relying
party: it accepts the issuer's tokens, refuses them, or it depends on the version
and settings of the relying party, or on the replica that it asks.

Exit status: 0 if nothing failed (there may be warnings), 1 if something failed,
2 if the issuer could not be checked.`,
		Example: `  oidc-provider check https://oidc.example.com
  oidc-provider check https://oidc.example.com --for aws,nginx -o json |
    jq -r '.results[] | select(.status == "fail").check'
  kubectl create token default --audience sts.amazonaws.com |
    oidc-provider check https://oidc.example.com --for aws --token -

  # A new server that is not in DNS yet
  oidc-provider check https://oidc.example.com --connect-to oidc.example.com:443:192.0.2.7:443

  # List the checks
  oidc-provider check --list`,
		Args: func(cmd *cobra.Command, args []string) error {
			if c.list && len(args) == 0 {
				return nil
			}
			return couldNot(exactArgs("ISSUER")(cmd, args))
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			return couldNot(cmd.Root().PersistentPreRunE(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.list {
				return c.printList(cmd.OutOrStdout())
			}
			return c.run(cmd, args[0])
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return couldNot(cmd.Root().FlagErrorFunc()(cmd, err))
	})
	c.addFlags(cmd)
	return cmd
}

type checkCommand struct {
	ask                         askFlags
	output                      outputFlag
	parties                     []string
	tokenFile, audience, socket string
	watch, list, verbose        bool
	interval                    time.Duration
}

func (c *checkCommand) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	c.ask.add(f)
	f.StringSliceVar(&c.parties, "for", check.DefaultParties,
		"judge for the relying parties `NAME,...` of "+strings.Join(check.PartyNames(), ", ")+"; or all")
	f.StringVar(&c.tokenFile, "token", "", "also judge the token in `FILE`, or - for standard input")
	f.StringVar(&c.audience, "audience", "", "the `AUDIENCE` that the token must be for")
	f.StringVar(&c.socket, "signer-socket", "",
		"compare the published keys with those of kube-apiserver's signer at the Unix socket `FILE`")
	f.BoolVar(&c.watch, "watch", false, "keep checking, and print changes")
	f.DurationVar(&c.interval, "interval", time.Minute, "`DURATION` between two rounds of --watch")
	f.BoolVar(&c.list, "list", false, "list the checks instead")
	f.BoolVarP(&c.verbose, "verbose", "v", false, "also list the checks that passed or were skipped")
	c.output.add(cmd, "table")
	cmd.RegisterFlagCompletionFunc("for", completeParties)
}

// completeParties completes the last of several names that commas separate.
func completeParties(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	before := typed[:strings.LastIndex(typed, ",")+1]
	chosen := strings.Split(before, ",")
	var names []string
	for _, p := range check.Parties {
		if !slices.Contains(chosen, p.Name) {
			names = append(names, before+p.Name+"\t"+p.Title)
		}
	}
	if before == "" {
		names = append(names, "all")
	}
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// couldNot gives err the exit status of a check that did not take place.
func couldNot(err error) error {
	if err == nil {
		return nil
	}
	return exitError{2, err}
}

func (c *checkCommand) run(cmd *cobra.Command, issuer string) error {
	o, err := c.options(cmd, issuer)
	if err != nil {
		return couldNot(err)
	}
	if c.watch {
		return c.follow(cmd, o)
	}
	report, err := c.round(cmd.Context(), o)
	if report != nil {
		if err := c.print(cmd.OutOrStdout(), report); err != nil {
			return couldNot(err)
		}
	}
	return checkStatus(report, err)
}

func (c *checkCommand) options(cmd *cobra.Command, issuer string) (check.Options, error) {
	o, err := c.ask.options(issuer)
	if err != nil {
		return o, err
	}
	o.Parties, o.Audience = c.parties, c.audience
	if slices.Contains(c.parties, "all") {
		o.Parties = check.PartyNames()
	}
	switch {
	case c.interval <= 0:
		return o, errors.New("--interval must be more than 0")
	case c.audience != "" && c.tokenFile == "":
		return o, errors.New("--audience needs --token")
	case strings.Contains(c.tokenFile, "eyJ"):
		return o, hint.Errorf("put it into a file, or give it on standard input with --token -",
			"--token wants a file: every user of this machine can read the command line")
	}
	if c.tokenFile != "" {
		o.Token, err = readTokenFile(cmd.InOrStdin(), c.tokenFile)
	}
	return o, err
}

// round asks the signer, if there is one, and the issuer.
func (c *checkCommand) round(ctx context.Context, o check.Options) (*check.Report, error) {
	if c.socket != "" {
		s, err := askSigner(ctx, c.socket, o.Timeout)
		if err != nil {
			return nil, err
		}
		o.Signer = s
	}
	return runCheck(ctx, o)
}

func askSigner(ctx context.Context, socket string, timeout time.Duration) (*check.Signer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	metadata, keys, err := signer.Ask(ctx, socket)
	if err != nil {
		return nil, err
	}
	s := &check.Signer{Address: socket, MaxTokenLifetime: time.Duration(metadata.MaxTokenExpirationSeconds) * time.Second}
	for _, k := range keys.Keys {
		s.Keys = append(s.Keys, check.SignerKey{KeyID: k.KeyId, PKIX: k.Key, Excluded: k.ExcludeFromOidcDiscovery})
	}
	return s, nil
}

// checkStatus returns the exit status for a report, and for the error that came
// with it.
func checkStatus(report *check.Report, err error) error {
	if err != nil {
		return couldNot(err)
	}
	if report.Count(check.Fail) > 0 {
		return exitError{code: 1}
	}
	return nil
}

// follow checks again and again, until it is interrupted, and prints what has
// changed. It reads a token once.
func (c *checkCommand) follow(cmd *cobra.Command, o check.Options) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	known := map[string]check.Result{}
	last := couldNot(errors.New("interrupted before the first round had ended"))
	for {
		report, err := c.round(ctx, o)
		if ctx.Err() != nil {
			return last
		}
		if report == nil && len(known) == 0 {
			return couldNot(err)
		}
		if err != nil && !errors.Is(err, check.ErrUnreachable) {
			warn(cmd, "%s: %s", describe.Time(time.Now()), hint.Text(err, flagName))
		}
		if report != nil {
			if err := c.printChanges(cmd.OutOrStdout(), known, report); err != nil {
				return couldNot(err)
			}
		}
		last = checkStatus(report, err)
		select {
		case <-ctx.Done():
			return last
		case <-time.After(c.interval):
		}
	}
}
