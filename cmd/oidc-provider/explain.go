package main

import (
	"context"
	"errors"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spf13/cobra"

	"oidc-provider/internal/check"
	"oidc-provider/internal/hint"
)

// judge returns what the checks find about a token. The issuer is asked when
// the first token needs it.
func (v *verifier) judge(ctx context.Context, token string) (*check.Report, error) {
	if v.seen == nil {
		o := v.options
		o.Parties, o.Tries = check.PartyNames(), 1
		report, err := runCheck(ctx, o)
		if err != nil {
			return nil, err
		}
		v.seen = report.Seen
	}
	return nameOptions(v.seen.Judge(token, v.audience)), nil
}

// explain returns everything that is wrong with a token that go-oidc has refused
// with err.
func (v *verifier) explain(ctx context.Context, token string, err error) error {
	report, judgeErr := v.judge(ctx, token)
	if judgeErr != nil {
		return err
	}
	var wrong []error
	for _, r := range report.Results {
		if r.Status == check.Fail && r.Concerns("go-oidc") && r.Topic() == "token" {
			wrong = append(wrong, hint.Wrap(errors.New(r.Seen), r.Do))
		}
	}
	if len(wrong) == 0 {
		return err
	}
	return errors.Join(wrong...)
}

// explainToken prints what each relying party does with a token. go-oidc itself
// decides for go-oidc.
func explainToken(cmd *cobra.Command, o check.Options, token, audience string, output *outputFlag) error {
	o.Parties, o.Token, o.Audience = check.PartyNames(), token, audience
	report, err := runCheck(cmd.Context(), o)
	if err != nil {
		return err
	}
	refusal := verifyAnything(cmd.Context(), o, token, audience)
	report.Correct("go-oidc", refusal)
	out := cmd.OutOrStdout()
	if output.structured() {
		err = output.write(out, struct {
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

// verifyAnything returns what go-oidc has against a token, for an audience if
// one was given.
func verifyAnything(ctx context.Context, o check.Options, token, audience string) error {
	v, err := newVerifier(ctx, o, audience)
	if err != nil {
		return err
	}
	config := &oidc.Config{ClientID: audience, SkipClientIDCheck: audience == ""}
	_, err = v.provider.Verifier(config).Verify(oidc.ClientContext(ctx, v.client), token)
	return err
}
