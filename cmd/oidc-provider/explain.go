package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"oidc-provider/check"
)

// judge is what the checks say of a token, with what was seen of the issuer the
// first time that somebody asked.
func (v *verifier) judge(ctx context.Context, token string) (*check.Report, error) {
	if v.seen == nil {
		report, err := check.Run(ctx, check.Options{Issuer: v.issuer, Parties: check.PartyNames(), Roots: v.roots, Tries: 1})
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

// explainToken prints what each relying party would say to a token.
func explainToken(cmd *cobra.Command, o check.Options, asJSON bool) error {
	o.Parties = check.PartyNames()
	report, err := check.Run(cmd.Context(), o)
	if err != nil {
		return err
	}
	all := answers(report)
	if asJSON {
		err = printJSON(cmd, all)
	} else {
		err = printAnswers(cmd, all)
	}
	if err == nil && report.First("go-oidc") != nil {
		err = exitError{code: 1}
	}
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
		a, reason := answer{Party: p.Name, Title: p.Title, Answer: "accepts"}, report.First(p.Name)
		if reason != nil {
			a.Answer = "refuses"
		} else if reason = warned(report, p.Name); reason != nil {
			a.Answer = "depends"
		}
		if reason != nil {
			a.Check, a.Seen, a.Why, a.Do = reason.Check, reason.Seen, reason.Why, reason.Do
		}
		all = append(all, a)
	}
	return all
}

// warned is the first warning about the token that concerns a relying party,
// nil if there is none.
func warned(report *check.Report, party string) *check.Result {
	for i := range report.Results {
		if r := &report.Results[i]; r.Status == check.Warn && r.Concerns(party) && strings.HasPrefix(r.Check, "token/") {
			return r
		}
	}
	return nil
}

func printAnswers(cmd *cobra.Command, all []answer) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "RELYING PARTY\tANSWER\tWHY")
	for _, a := range all {
		why := "once it trusts this issuer, subject and audience"
		if a.Check != "" {
			why = fmt.Sprintf("%s: %s; %s", a.Check, a.Seen, a.Why)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", a.Title, a.Answer, why)
	}
	return w.Flush()
}
