package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spf13/cobra"

	"oidc-provider/internal/check"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
	"oidc-provider/internal/input"
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

A token that passes here may be bound to a Pod that no longer exists: only a
TokenReview by the API server detects that.`,
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
	if v.explain {
		return explainToken(cmd, options, token, v.audience, &v.output)
	}
	verifier, err := newVerifier(cmd.Context(), options, v.audience)
	if err != nil {
		return err
	}
	claims, err := verifier.verify(cmd.Context(), token)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, claims, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), out.String())
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

// newClient returns an HTTP client with the options.
func newClient(o check.Options) *http.Client {
	transport := httpclient.Transport(o.Roots)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if to := o.ConnectTo[strings.ToLower(address)]; len(to) > 0 {
			address = to[0]
		}
		return dial(ctx, network, address)
	}
	return &http.Client{Timeout: o.Timeout, Transport: bounded{transport}}
}

// maxDocument bounds a response, in bytes. No document of an issuer is longer.
const maxDocument = 1 << 20

// bounded cuts off responses that are longer than that.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxDocument)
	}
	return resp, err
}

// A verifier is a relying party of one issuer, for one audience.
type verifier struct {
	options  check.Options
	audience string
	client   *http.Client
	provider *oidc.Provider
	seen     *check.Observation // of the issuer, nil until a refusal is to be explained
}

func newVerifier(ctx context.Context, o check.Options, audience string) (*verifier, error) {
	client := newClient(o)
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), o.Issuer)
	if err != nil {
		return nil, hint.Errorf("the issuer must be exactly as in the tokens, and reachable from here; "+
			"{option.caFile} names a private CA; `oidc-provider check` reports more",
			"asking %s for its discovery document: %w", o.Issuer, err)
	}
	return &verifier{options: o, audience: audience, client: client, provider: provider}, nil
}

// verify returns the claims of a valid ServiceAccount token. go-oidc decides; the
// rest only explains.
func (v *verifier) verify(ctx context.Context, token string) (json.RawMessage, error) {
	ctx = oidc.ClientContext(ctx, v.client)
	verified, err := v.provider.VerifierContext(ctx, &oidc.Config{ClientID: v.audience}).Verify(ctx, token)
	if err != nil {
		return nil, v.explain(ctx, token, err)
	}
	var raw json.RawMessage
	if err := verified.Claims(&raw); err != nil {
		return nil, err
	}
	var c claims
	if err := verified.Claims(&c); err != nil || !isServiceAccount(c) {
		return nil, fmt.Errorf("not a ServiceAccount token: sub is %q, "+
			"and kubernetes.io names ServiceAccount %q in namespace %q",
			verified.Subject, c.Kubernetes.ServiceAccount.Name, c.Kubernetes.Namespace)
	}
	return raw, nil
}

func isServiceAccount(c claims) bool {
	k := c.Kubernetes
	subject := subjectPrefix + k.Namespace + ":" + k.ServiceAccount.Name
	return k.Namespace != "" && k.ServiceAccount.Name != "" && c.Subject == subject
}
