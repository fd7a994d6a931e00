package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/check"
	"oidc-provider/internal/signer"
)

func newCheckCommand() *cobra.Command {
	var ask askFlags
	var output outputFlag
	var c checkCommand
	cmd := &cobra.Command{
		Use:   "check ISSUER",
		Short: "Ask an issuer everything that relying parties will, and say what is wrong",
		Long: `Ask a live issuer, ours or anybody's, everything that relying parties will, and
say what is wrong, why it matters to whom, and what to do. Nothing is needed but
the URL that stands in the tokens.

Each document is asked for ten times, from every address of the host, over
HTTP/2, HTTP/1.1 and HTTP/1.0, with and without compression. No redirect is
followed. A token that is given is looked at here and sent nowhere.

Exit status: 0 if nothing failed (there may be warnings), 1 if something did,
2 if the issuer could not be checked.`,
		Example: `  oidc-provider check https://oidc.example.com
  oidc-provider check https://oidc.example.com --for aws,nginx -o json | jq -r '.results[] | select(.status == "fail").check'
  kubectl create token default --audience sts.amazonaws.com | oidc-provider check https://oidc.example.com --for aws --token -

  # A new server, before DNS leads to it
  oidc-provider check https://oidc.example.com --connect-to oidc.example.com:443:192.0.2.7:443

  # What is checked
  oidc-provider check --list`,
		Args: func(cmd *cobra.Command, args []string) error {
			if c.list && len(args) == 0 {
				return nil
			}
			return couldNot(cobra.ExactArgs(1)(cmd, args))
		},
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			return couldNot(cmd.Root().PersistentPreRunE(cmd, args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.json = output.structured()
			if c.list {
				return c.printList(cmd.OutOrStdout())
			}
			options, err := ask.options(args[0])
			if err != nil {
				return couldNot(err)
			}
			return c.run(cmd, options)
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return couldNot(cmd.Root().FlagErrorFunc()(cmd, err))
	})
	f := cmd.Flags()
	ask.add(f)
	f.StringSliceVar(&c.parties, "for", check.DefaultParties, "relying parties to judge for, of "+strings.Join(check.PartyNames(), ", ")+"; or all")
	f.StringVar(&c.tokenFile, "token", "", "file with a token to judge as well, or - for standard input")
	f.StringVar(&c.audience, "audience", "", "audience that the token should be for")
	f.StringVar(&c.socket, "signer-socket", "", "socket of kube-apiserver's signer, to compare its keys with those that are published")
	f.BoolVar(&c.watch, "watch", false, "go on, and print what changes")
	f.DurationVar(&c.interval, "interval", time.Minute, "time between two rounds of --watch")
	f.BoolVar(&c.list, "list", false, "list the checks instead")
	output.add(cmd, "table")
	return cmd
}

// couldNot gives err the exit status of a check that did not come about.
func couldNot(err error) error {
	if err == nil {
		return nil
	}
	return exitError{2, err}
}

type checkCommand struct {
	parties                     []string
	tokenFile, audience, socket string
	watch, list, json           bool
	interval                    time.Duration
}

func (c *checkCommand) run(cmd *cobra.Command, o check.Options) error {
	o.Parties, o.Audience = c.parties, c.audience
	if slices.Contains(c.parties, "all") {
		o.Parties = check.PartyNames()
	}
	switch {
	case c.interval <= 0:
		return couldNot(errors.New("--interval must be more than 0"))
	case c.audience != "" && c.tokenFile == "":
		return couldNot(errors.New("--audience goes with --token"))
	case strings.Contains(c.tokenFile, "eyJ"):
		return couldNot(errors.New("--token wants a file, or - for standard input: everybody on this machine can read what is on a command line"))
	}
	if c.tokenFile != "" {
		token, err := readTokenFile(cmd.InOrStdin(), c.tokenFile)
		if err != nil {
			return couldNot(err)
		}
		o.Token = token
	}
	if !c.watch {
		report, err := c.once(cmd.Context(), o)
		if report != nil {
			if err := c.print(cmd.OutOrStdout(), report); err != nil {
				return couldNot(err)
			}
		}
		return verdict(report, err)
	}
	return c.follow(cmd, o)
}

// once asks the signer, if there is one, and the issuer.
func (c *checkCommand) once(ctx context.Context, o check.Options) (*check.Report, error) {
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

// verdict is the exit status of a report, and of the error that came with it.
func verdict(report *check.Report, err error) error {
	if err != nil {
		return couldNot(err)
	}
	if report.Count(check.Fail) > 0 {
		return exitError{code: 1}
	}
	return nil
}

// follow asks again and again, until it is interrupted, and prints what has
// changed. A token is read once.
func (c *checkCommand) follow(cmd *cobra.Command, o check.Options) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	known := map[string]string{}
	last := couldNot(errors.New("interrupted before anything was known"))
	for {
		report, err := c.once(ctx, o)
		if ctx.Err() != nil {
			return last
		}
		if report == nil && len(known) == 0 {
			return couldNot(err)
		}
		if err != nil && !errors.Is(err, check.ErrUnreachable) {
			warn(cmd, "%s: %v", formatTime(time.Now()), err)
		}
		if report != nil {
			if err := c.printChanges(cmd.OutOrStdout(), known, report); err != nil {
				return couldNot(err)
			}
		}
		last = verdict(report, err)
		select {
		case <-ctx.Done():
			return last
		case <-time.After(c.interval):
		}
	}
}

// printChanges prints all of the first report, and of a later one what is
// different from what is known. What could not be asked this time has not
// changed.
func (c *checkCommand) printChanges(w io.Writer, known map[string]string, now *check.Report) error {
	first := len(known) == 0
	for _, r := range now.Results {
		state := stateOf(r)
		if r.Status == check.Skip || state == known[r.Check] {
			continue
		}
		known[r.Check] = state
		if !first && !c.json {
			fmt.Fprintf(w, "%s  ", formatTime(now.Time))
			printResult(w, r)
		}
	}
	if first || c.json {
		return c.print(w, now)
	}
	return nil
}

// stateOf is what has to differ for a result to be worth a line: its status,
// and what is wrong, unless that is a time, which is another one each time.
func stateOf(r check.Result) string {
	_, what, _ := strings.Cut(r.Check, "/")
	if r.Status == check.Pass || what == "latency" || what == "wait" || what == "expiry" || what == "answer" {
		return string(r.Status)
	}
	return string(r.Status) + " " + r.Seen
}

// print shows a report; as JSON it is one line a round with --watch.
func (c *checkCommand) print(w io.Writer, report *check.Report) error {
	if c.json {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		if !c.watch {
			enc.SetIndent("", "  ")
		}
		return enc.Encode(report)
	}
	for _, r := range report.Results {
		if r.Status != check.Skip {
			printResult(w, r)
		}
	}
	_, err := fmt.Fprintf(w, "\n%d passed, %d warned, %d failed, %d skipped (-o json shows them)\n",
		report.Count(check.Pass), report.Count(check.Warn), report.Count(check.Fail), report.Count(check.Skip))
	return err
}

func printResult(w io.Writer, r check.Result) {
	fmt.Fprintf(w, "%-4s  %-22s  %s\n", r.Status, r.Check, r.Seen)
	if r.Why != "" {
		fmt.Fprintf(w, "%30swhy: %s\n", "", r.Why)
	}
	if r.Do != "" {
		fmt.Fprintf(w, "%30sdo:  %s\n", "", r.Do)
	}
}

func (c *checkCommand) printList(w io.Writer) error {
	if c.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(check.List())
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "CHECK\tASKS")
	for _, one := range check.List() {
		fmt.Fprintf(table, "%s\t%s\n", one.ID, one.Asks)
	}
	return table.Flush()
}
