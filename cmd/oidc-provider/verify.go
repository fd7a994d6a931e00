package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"oidc-provider/internal/check"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
	"oidc-provider/internal/serviceaccount"
)

func newVerifyCommand() *cobra.Command {
	var v verifyCommand
	cmd := &cobra.Command{
		Use:   "verify --issuer URL --audience AUDIENCE [TOKEN | -]",
		Short: "Verify a ServiceAccount token against an issuer's documents",
		Long: `Verify a ServiceAccount token as a relying party does: with go-oidc, against the
documents that the issuer publishes now. Print the claims, or report what is
wrong. The token is an argument, or comes from standard input.

With --explain, report instead what each relying party does with the token, and
why, once it trusts this issuer, subject and audience. --audience is optional
then. The exit status is that of go-oidc's verdict.

A token that is not that of a ServiceAccount passes with a warning. One that
passes may be bound to a Pod that no longer exists: only a TokenReview by the API
server detects that.`,
		Example: `  oidc-provider verify --issuer https://oidc.example.com --audience vault eyJhbGciOi...
  kubectl create token default --audience demo |
    oidc-provider verify --issuer https://oidc.example.com --audience demo -
  oidc-provider verify --issuer https://oidc.example.com --explain - < /var/run/secrets/tokens/aws`,
		Args:              minimumArgs(0, "TOKEN"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              v.run,
	}
	f := cmd.Flags()
	f.StringVar(&v.issuer, "issuer", "", "the issuer `URL` to trust (required)")
	f.StringVar(&v.audience, "audience", "", "the `AUDIENCE` that the token must be for (required without --explain)")
	f.BoolVar(&v.explain, "explain", false, "report what each relying party does with the token, and why")
	v.ask.add(f)
	v.output.add(cmd, "table")
	return cmd
}

type verifyCommand struct {
	issuer, audience string
	ask              askFlags
	explain          bool
	output           outputFlag
}

func (v *verifyCommand) run(cmd *cobra.Command, args []string) error {
	switch {
	case v.issuer == "":
		return hint.Errorf("name the issuer whose tokens you trust, not the one that the token names", "--issuer is required")
	case v.audience == "" && !v.explain:
		return hint.Errorf("a token for another audience must not pass", "--audience is required")
	case v.output.structured() && !v.explain:
		return hint.Errorf("without it, the claims are printed, which are JSON", "-o %s needs --explain", v.output.format)
	}
	token, err := readToken(cmd.InOrStdin(), args)
	if err != nil {
		return err
	}
	options, err := v.ask.options(v.issuer)
	if err != nil {
		return err
	}
	quietHTTP()
	if v.explain {
		options.Token, options.Audience = token, v.audience
		return v.explainToken(cmd, options)
	}
	verifier, err := check.NewVerifier(cmd.Context(), options, v.audience)
	if err != nil {
		return err
	}
	claims, err := verifier.Verify(cmd.Context(), token)
	if err != nil {
		return err
	}
	if err := serviceaccount.Check(claims); err != nil {
		warnError(cmd, err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, claims, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), out.String())
	return err
}

// explainToken prints what each relying party does with a token.
func (v *verifyCommand) explainToken(cmd *cobra.Command, o check.Options) error {
	report, refusal, err := check.Explain(cmd.Context(), o)
	if err != nil {
		return err
	}
	nameOptions(report)
	out := cmd.OutOrStdout()
	if v.output.structured() {
		err = v.output.write(out, struct {
			Issuer         string          `json:"issuer"`
			RelyingParties []check.Verdict `json:"relyingParties"`
		}{report.Issuer, report.RelyingParties})
	} else {
		err = printVerdicts(out, colours(out), report)
	}
	if err == nil && refusal != nil {
		err = exitError{code: 1}
	}
	return err
}

func readToken(stdin io.Reader, args []string) (string, error) {
	switch {
	case len(args) == 0 && isTerminal(stdin):
		return "", hint.Errorf("give it as an argument or on standard input", "missing argument TOKEN")
	case len(args) == 0 || args[0] == "-":
		return readTokenFile(stdin, "-")
	}
	return trimToken(args[0])
}

// readTokenFile reads a token from a file, or from stdin if that is -.
func readTokenFile(stdin io.Reader, name string) (string, error) {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		defer f.Close()
		from = f
	}
	data, err := input.ReadAtMost(from, check.MaxToken)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	return trimToken(string(data))
}

func trimToken(token string) (string, error) {
	token = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(token), "Bearer "))
	switch {
	case token == "":
		return "", hint.Errorf("give it as an argument or on standard input", "no token")
	case len(token) > check.MaxToken:
		return "", fmt.Errorf("the token is longer than %d bytes", check.MaxToken)
	}
	return token, nil
}
