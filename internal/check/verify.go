package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
)

// A Verifier verifies tokens of one issuer, for one audience, as a relying party
// with go-oidc does. It is not for concurrent use.
type Verifier struct {
	options  Options
	audience string
	client   *http.Client
	provider *oidc.Provider
	seen     *Observation // of the issuer, nil until a refusal is to be explained
}

// NewVerifier asks the issuer of the options for its discovery document.
func NewVerifier(ctx context.Context, o Options, audience string) (*Verifier, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	client := newClient(o)
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), o.Issuer)
	if err != nil {
		return nil, hint.Errorf("the issuer must be exactly as in the tokens, and reachable from here; "+
			"{option.caFile} names a private CA; `oidc-provider check` reports more",
			"asking %s for its discovery document: %w", o.Issuer, brief(err))
	}
	return &Verifier{options: o, audience: audience, client: client, provider: provider}, nil
}

func newClient(o Options) *http.Client {
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

// bounded cuts off responses that are longer than any document of an issuer.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxDocument)
	}
	return resp, err
}

// Verify returns the claims of a valid token. go-oidc decides. If it refuses the token,
// the error has everything that is wrong with it.
func (v *Verifier) Verify(ctx context.Context, token string) (json.RawMessage, error) {
	verified, err := v.verify(ctx, token, false)
	if err != nil {
		return nil, v.explain(ctx, token, err)
	}
	var raw json.RawMessage
	if err := verified.Claims(&raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// verify asks go-oidc about a token.
func (v *Verifier) verify(ctx context.Context, token string, anyAudience bool) (*oidc.IDToken, error) {
	ctx = oidc.ClientContext(ctx, v.client)
	config := &oidc.Config{ClientID: v.audience, SkipClientIDCheck: anyAudience}
	return v.provider.VerifierContext(ctx, config).Verify(ctx, token)
}

// explain returns everything that is wrong with a token that go-oidc has refused
// with err.
func (v *Verifier) explain(ctx context.Context, token string, err error) error {
	if v.seen == nil { // the issuer is asked for the first such token only
		o := v.options
		o.Parties, o.Tries = PartyNames(), 1
		report, runErr := Run(ctx, o)
		if runErr != nil {
			return brief(err)
		}
		v.seen = report.Seen
	}
	report := v.seen.Judge(token, v.audience)
	if wrong := report.wrong("token"); wrong != nil {
		return wrong
	}
	// Nothing is wrong with the token, so go-oidc could not read the keys.
	return errors.Join(brief(err), report.wrong("jwks"))
}

// wrong returns the failures that concern go-oidc and a topic.
func (r *Report) wrong(topic string) error {
	var wrong []error
	for _, result := range r.Results {
		if result.Status == Fail && result.Concerns("go-oidc") && result.Topic() == topic {
			wrong = append(wrong, hint.Wrap(errors.New(result.Seen), result.Do))
		}
	}
	return errors.Join(wrong...)
}

// brief returns err without the documents that go-oidc quotes in its errors.
func brief(err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	for _, at := range statusCode.FindAllStringIndex(text, -1) {
		code, _ := strconv.Atoi(text[at[0]:at[1]])
		status := fmt.Sprintf("%d %s", code, http.StatusText(code))
		if strings.HasPrefix(text[at[0]:], status) && len(status) > 4 {
			text = text[:at[0]+len(status)] // the document follows
			break
		}
	}
	if i := strings.IndexAny(text, "{<"); i >= 0 {
		text = strings.TrimRight(text[:i], " :") + ": …"
	}
	return &briefError{clean(text, 300), err}
}

var statusCode = regexp.MustCompile(`\b[1-5][0-9][0-9]\b`)

// A briefError is an error with a shorter text.
type briefError struct {
	text string
	err  error
}

func (e *briefError) Error() string { return e.text }

func (e *briefError) Unwrap() error { return e.err }

// Explain reports what each relying party does with the token of the options.
// go-oidc itself decides for go-oidc: refusal is its reason, nil if it accepts the
// token.
func Explain(ctx context.Context, o Options) (report *Report, refusal, err error) {
	o.Parties = PartyNames()
	if report, err = Run(ctx, o); err != nil {
		return report, nil, err
	}
	v, refusal := NewVerifier(ctx, o, o.Audience)
	if refusal == nil {
		_, refusal = v.verify(ctx, o.Token, o.Audience == "")
	}
	if refusal != nil {
		refusal = brief(refusal)
	}
	report.Correct("go-oidc", refusal)
	return report, refusal, nil
}
