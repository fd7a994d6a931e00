// Package check asks a live issuer everything that relying parties ask, and
// judges the answers. [Run] first observes, then judges: an [Observation] holds
// what was seen, and every [Check] is one small function of it. It follows no
// redirects. A token is examined here and sent nowhere.
//
// Texts may name an option in braces, as package hint describes.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Status is the outcome of a check.
type Status string

const (
	Pass Status = "pass"
	Warn Status = "warn" // works for now, or for most relying parties
	Fail Status = "fail" // some relying party will refuse
	Skip Status = "skip" // could not be asked, or does not apply to this issuer
)

// A Check asks one question.
type Check struct {
	// ID names it: what it looks at, a slash, and what about it.
	ID string `json:"check"`
	// Asks is the question.
	Asks string `json:"asks"`
	// For is the relying party whose rule it is, empty if it concerns all.
	For string `json:"for,omitempty"`

	Traits

	// look answers the question. A result without For concerns the same
	// relying parties as the check. One without Status is left out.
	look func(*Observation) Result
}

// Traits say what follows from a result of a check.
type Traits struct {
	// Decisive: a relying party that a failure concerns refuses every token.
	// Other failures may go unnoticed, for example those of one replica.
	Decisive bool `json:"-"`
	// Volatile: what was seen differs from one run to the next, as a time
	// does. Only a new status is a change.
	Volatile bool `json:"-"`
	// Authenticates: it verifies who has answered. After a failure, what was
	// seen may come from an attacker.
	Authenticates bool `json:"-"`
	// Keys: it judges the keys themselves, so it also concerns a relying
	// party that holds a copy of them and never asks the issuer.
	Keys bool `json:"-"`
}

// with returns the check with traits.
func (c Check) with(t Traits) Check {
	c.Traits = t
	return c
}

// List returns every check, in the order in which they run.
func List() []Check {
	return slices.Concat(issuerChecks, documentChecks("discovery", (*Observation).discovery), discoveryChecks,
		documentChecks("jwks", (*Observation).keySet), keyChecks, partyChecks(), signerChecks, tokenChecks)
}

// A Result is what a check has found.
type Result struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	// For names the relying parties that it concerns, none for all.
	For []string `json:"for,omitempty"`
	// Seen is what was found. Why says whom it affects and how, Do how to fix
	// it: both are empty unless it is a warning or a failure.
	Seen string `json:"seen"`
	Why  string `json:"why,omitempty"`
	Do   string `json:"do,omitempty"`

	Traits
}

// Concerns reports whether the result matters to a relying party.
func (r Result) Concerns(party string) bool {
	return len(r.For) == 0 || slices.Contains(r.For, party)
}

// Topic returns what the check looks at: issuer, discovery, jwks, signer, token
// or the name of a relying party.
func (r Result) Topic() string {
	topic, _, _ := strings.Cut(r.Check, "/")
	return topic
}

// Changed reports whether the result of a later run of the same check differs
// enough to be reported.
func (r Result) Changed(later Result) bool {
	return r.Status != later.Status || r.Status != Pass && !r.Volatile && r.Seen != later.Seen
}

func pass(format string, args ...any) Result {
	return Result{Status: Pass, Seen: fmt.Sprintf(format, args...)}
}

func skip(format string, args ...any) Result {
	return Result{Status: Skip, Seen: fmt.Sprintf(format, args...)}
}

func warn(seen, why, do string) Result { return Result{Status: Warn, Seen: seen, Why: why, Do: do} }
func fail(seen, why, do string) Result { return Result{Status: Fail, Seen: seen, Why: why, Do: do} }

// only restricts a result to some relying parties.
func (r Result) only(parties ...string) Result {
	r.For = parties
	return r
}

// ErrUnreachable is in the error of [Run] if no connection succeeded. That says
// nothing about the issuer.
var ErrUnreachable = errors.New("the issuer cannot be reached from here")

// Run asks the issuer and judges. An error means that it could not. The report
// is nil then, except for [ErrUnreachable], where it says why.
func Run(ctx context.Context, o Options) (*Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	seen := observe(ctx, o)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	report := judge(seen)
	if seen.unreachable() {
		return report, fmt.Errorf("%w: %s", ErrUnreachable, seen.Discovery.unreachable())
	}
	return report, nil
}

// longest bounds texts, most of which the other side wrote, in bytes.
const longest = 2000

// judge runs the checks that concern a chosen relying party.
func judge(o *Observation) *Report {
	report := &Report{Issuer: o.Options.Issuer, Time: o.Time, Seen: o}
	for _, c := range List() {
		if c.For != "" && !slices.Contains(o.Options.Parties, c.For) {
			continue
		}
		r := c.complete(c.look(o))
		if r.Status == "" || !slices.ContainsFunc(o.Options.Parties, r.Concerns) {
			continue
		}
		r.Seen, r.Why, r.Do = clean(r.Seen, longest), clean(r.Why, longest), clean(r.Do, longest)
		report.Results = append(report.Results, r)
	}
	report.RelyingParties = report.verdicts()
	return report
}

// complete adds to a result what follows from its check.
func (c Check) complete(r Result) Result {
	r.Check, r.Traits = c.ID, c.Traits
	if c.For != "" && r.For == nil {
		r.For = []string{c.For}
	}
	// A rule that only some relying parties have is why they refuse.
	r.Decisive = r.Decisive || len(r.For) > 0
	return r
}
