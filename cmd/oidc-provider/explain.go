package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spf13/cobra"

	"oidc-provider/internal/check"
)

// judge is what the checks say of a token, with what was seen of the issuer the
// first time that somebody asked.
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
	return v.seen.Judge(token, v.audience), nil
}

// explain says everything that is wrong with a token that go-oidc has refused
// with err.
func (v *verifier) explain(ctx context.Context, token string, err error) error {
	report, judgeErr := v.judge(ctx, token)
	if judgeErr != nil {
		return err
	}
	var wrong []string
	for _, r := range report.Results {
		if r.Status == check.Fail && r.Concerns("go-oidc") && strings.HasPrefix(r.Check, "token/") {
			wrong = append(wrong, fmt.Sprintf("%s (hint: %s)", r.Seen, r.Do))
		}
	}
	if len(wrong) == 0 {
		return err
	}
	return errors.New(strings.Join(wrong, "\n       "))
}

// explainToken prints what each relying party would say to a token. go-oidc is
// here to be asked.
func explainToken(cmd *cobra.Command, o check.Options, token, audience string, asJSON bool) error {
	o.Parties, o.Token, o.Audience = check.PartyNames(), token, audience
	report, err := runCheck(cmd.Context(), o)
	if err != nil {
		return err
	}
	all := answers(report)
	refusal := verifyAnything(cmd.Context(), o, token, audience)
	i := slices.IndexFunc(all, func(a answer) bool { return a.Party == "go-oidc" })
	switch a := &all[i]; {
	case refusal == nil:
		*a = answer{Party: a.Party, Title: a.Title, Answer: "accepts"}
	case a.Answer != "refuses":
		*a = answer{Party: a.Party, Title: a.Title, Answer: "refuses", Seen: refusal.Error()}
	}
	if asJSON {
		err = new(outputFlag).write(cmd.OutOrStdout(), all)
	} else {
		err = printAnswers(cmd, all)
	}
	if err == nil && refusal != nil {
		err = exitError{code: 1}
	}
	return err
}

// verifyAnything is what go-oidc says to a token, for an audience if there is
// one.
func verifyAnything(ctx context.Context, o check.Options, token, audience string) error {
	v, err := newVerifier(ctx, o, audience)
	if err != nil {
		return err
	}
	config := &oidc.Config{ClientID: audience, SkipClientIDCheck: audience == ""}
	_, err = v.provider.Verifier(config).Verify(oidc.ClientContext(ctx, v.client), token)
	return err
}

// An answer is what a relying party would say to a token.
type answer struct {
	Party  string `json:"party"`
	Title  string `json:"title"`
	Answer string `json:"answer"` // accepts, depends or refuses
	// The check that decided, and what it has to say. Empty if all passed.
	Check string `json:"check,omitempty"`
	Seen  string `json:"seen,omitempty"`
	Why   string `json:"why,omitempty"`
	Do    string `json:"do,omitempty"`
}

// answers are what each relying party would say, if trust in this issuer,
// subject and audience has been set up there.
func answers(report *check.Report) (all []answer) {
	for _, p := range check.Parties {
		a := answer{Party: p.Name, Title: p.Title, Answer: "refuses"}
		reason := first(report, p.Name, decides(report))
		if reason == nil {
			a.Answer = "depends"
			reason = first(report, p.Name, troubles)
		}
		if reason == nil {
			a.Answer = "accepts"
		}
		if reason != nil {
			a.Check, a.Seen, a.Why, a.Do = reason.Check, reason.Seen, reason.Why, reason.Do
		}
		all = append(all, a)
	}
	return all
}

// first is the first result that concerns a relying party and is of a kind, nil
// if there is none.
func first(report *check.Report, party string, is func(check.Result) bool) *check.Result {
	for i := range report.Results {
		if r := &report.Results[i]; r.Concerns(party) && is(*r) {
			return r
		}
	}
	return nil
}

// decides says which failures make a relying party refuse: those of the token,
// those that are its own, and of the documents what keeps them from it.
func decides(report *check.Report) func(check.Result) bool {
	lacking := report.Seen.Configuration.Body == nil || report.Seen.KeySet.Body == nil
	return func(r check.Result) bool {
		what, _, _ := strings.Cut(r.Check, "/")
		return r.Status == check.Fail && (lacking || len(r.For) > 0 || what == "token" ||
			slices.Contains([]string{"issuer/url", "discovery/certificate", "discovery/json", "discovery/issuer", "discovery/jwks_uri", "jwks/certificate", "jwks/json"}, r.Check))
	}
}

// troubles says what may make one refuse: other failures, and warnings about
// the token.
func troubles(r check.Result) bool {
	return r.Status == check.Fail || r.Status == check.Warn && strings.HasPrefix(r.Check, "token/")
}

func printAnswers(cmd *cobra.Command, all []answer) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "RELYING PARTY\tANSWER\tWHY")
	for _, a := range all {
		why := "once it trusts this issuer, subject and audience"
		switch {
		case a.Check != "":
			why = fmt.Sprintf("%s: %s; %s", a.Check, a.Seen, a.Why)
		case a.Seen != "":
			why = a.Seen
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", a.Title, a.Answer, why)
	}
	return w.Flush()
}
