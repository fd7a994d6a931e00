package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spf13/cobra"

	"oidc-provider/internal/check"
)

func newVerifyCommand() *cobra.Command {
	var issuer, audience string
	var ask askFlags
	var explain bool
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "verify --issuer URL --audience AUDIENCE [TOKEN | -]",
		Short: "Verify a ServiceAccount token against an issuer's documents",
		Long: `Verify a ServiceAccount token as a relying party does: with go-oidc, against the
documents that the issuer publishes now. Prints the claims, or says what is
wrong. The token is an argument, or comes from standard input.

With --explain it says instead what each relying party would answer, and why,
once it has been told to trust this issuer, subject and audience. --audience is
not needed then. The exit status is that of go-oidc's answer.

A token that passes here may be bound to a Pod that is gone: only a TokenReview
by the API server sees that.`,
		Example: `  oidc-provider verify --issuer https://oidc.example.com --audience vault eyJhbGciOi...
  kubectl create token default --audience demo | oidc-provider verify --issuer https://oidc.example.com --audience demo -
  oidc-provider verify --issuer https://oidc.example.com --explain - < /var/run/secrets/tokens/aws`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case issuer == "":
				return errors.New("--issuer is required: the one whose tokens you trust, not the one that the token names")
			case audience == "" && !explain:
				return errors.New("--audience is required: a token that was made for somebody else must not pass")
			case output.structured() && !explain:
				return errors.New("-o json goes with --explain: without it claims are printed, which are JSON")
			}
			token, err := readToken(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			options, err := ask.options(issuer)
			if err != nil {
				return err
			}
			if explain {
				return explainToken(cmd, options, token, audience, output.structured())
			}
			v, err := newVerifier(cmd.Context(), options, audience)
			if err != nil {
				return err
			}
			claims, err := v.verify(cmd.Context(), token)
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := json.Indent(&out, claims, "", "  "); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), out.String())
			return nil
		},
	}
	cmd.Flags().StringVar(&issuer, "issuer", "", "the issuer to trust (required)")
	cmd.Flags().StringVar(&audience, "audience", "", "the audience that the token must be for (required without --explain)")
	cmd.Flags().BoolVar(&explain, "explain", false, "say what each relying party would answer, and why")
	ask.add(cmd.Flags())
	output.add(cmd, "table")
	return cmd
}

// maxDocument bounds what is read from elsewhere.
const maxDocument = 1 << 20

func readToken(stdin io.Reader, args []string) (string, error) {
	token := "-"
	if len(args) == 1 {
		token = args[0]
	}
	if token == "-" {
		return readTokenFile(stdin, token)
	}
	return trimToken(token)
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
	data, err := io.ReadAll(io.LimitReader(from, check.MaxToken+1))
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	return trimToken(string(data))
}

func trimToken(token string) (string, error) {
	token = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(token), "Bearer "))
	switch {
	case token == "":
		return "", errors.New("there is no token (hint: give it as an argument or on standard input)")
	case len(token) > check.MaxToken:
		return "", fmt.Errorf("the token is longer than %d bytes", check.MaxToken)
	}
	return token, nil
}

// newClient is a client as options say.
func newClient(o check.Options) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: o.Roots}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if to := o.ConnectTo[strings.ToLower(address)]; len(to) > 0 {
			address = to[0]
		}
		return dial(ctx, network, address)
	}
	return &http.Client{Timeout: o.Timeout, Transport: bounded{transport}}
}

// bounded cuts responses off that are longer than any document of an issuer.
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
	seen     *check.Observation // nil until somebody asks why
}

func newVerifier(ctx context.Context, o check.Options, audience string) (*verifier, error) {
	client := newClient(o)
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), o.Issuer)
	if err != nil {
		return nil, fmt.Errorf("asking %s for its configuration: %w (hint: is the issuer exactly as in the tokens, and reachable from here? --ca-file names a private CA; `oidc-provider check` says more)", o.Issuer, err)
	}
	return &verifier{options: o, audience: audience, client: client, provider: provider}, nil
}

// verify returns the claims of a good ServiceAccount token. It is go-oidc that
// decides; what comes after only finds words for it.
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
		return nil, fmt.Errorf("not a ServiceAccount token: sub is %q, and kubernetes.io names ServiceAccount %q in namespace %q",
			verified.Subject, c.Kubernetes.ServiceAccount.Name, c.Kubernetes.Namespace)
	}
	return raw, nil
}

func isServiceAccount(c claims) bool {
	k := c.Kubernetes
	return k.Namespace != "" && k.ServiceAccount.Name != "" && c.Subject == subjectPrefix+k.Namespace+":"+k.ServiceAccount.Name
}
