// Package check asks a live issuer everything that a relying party will, and
// judges the answers. [Run] observes first and judges then: an [Observation]
// holds what was seen, and every [Check] is one small function of it. It
// follows no redirect, and a token is looked at here and sent nowhere.
package check

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Options say what to ask, and how. Only Issuer must be set.
type Options struct {
	// Issuer to look at, as it stands in the tokens.
	Issuer string

	// Parties are the names of the relying parties to judge for. Default
	// [DefaultParties].
	Parties []string

	// Roots to verify certificates with. Default the system's, which stand
	// for what everybody trusts; roots of one's own are a private CA, which
	// the public clouds do not know.
	Roots *x509.CertPool

	// ConnectTo says, for a "host:port", which "ip:port" to connect to
	// instead of what DNS says. Several are replicas that are all asked.
	ConnectTo map[string][]string

	// Timeout of a request, from the connection to the last byte. Default 5s:
	// AWS STS waits no longer.
	Timeout time.Duration

	// Tries is how often each document is asked for, at most 100 times: all
	// answers are kept. Default 10.
	Tries int

	// PublishAhead is how long the issuer publishes a key before it signs,
	// which caches must not outlive. Default 24h.
	PublishAhead time.Duration

	// Token to judge as well, and the audience that it should be for. Both
	// may be empty.
	Token, Audience string

	// Signer is what the external JWT signer of the API server said, to be
	// compared with what is published. May be nil.
	Signer *Signer
}

// DefaultParties are the relying parties that an issuer of ServiceAccount
// tokens should suit without thinking about it.
var DefaultParties = []string{"aws", "gcp", "azure", "vault", "kubernetes"}

// withDefaults fills in what is not set, and refuses what makes no sense.
func (o Options) withDefaults() (Options, error) {
	if o.Issuer == "" {
		return o, errors.New("no issuer to check")
	}
	if len(o.Parties) == 0 {
		o.Parties = DefaultParties
	}
	for _, name := range o.Parties {
		if _, ok := PartyByName(name); !ok {
			return o, fmt.Errorf("unknown relying party %q (hint: there are %s)", name, strings.Join(PartyNames(), ", "))
		}
	}
	if o.Timeout < 0 || o.Tries < 0 || o.PublishAhead < 0 {
		return o, errors.New("timeout, tries and publish-ahead must not be negative")
	}
	if o.Tries > maxTries {
		return o, fmt.Errorf("at most %d tries", maxTries)
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Tries == 0 {
		o.Tries = 10
	}
	if o.PublishAhead == 0 {
		o.PublishAhead = 24 * time.Hour
	}
	return o, nil
}

// A Status is how a check ended.
type Status string

const (
	Pass Status = "pass"
	Warn Status = "warn" // works, for now or for most
	Fail Status = "fail" // some relying party will refuse
	Skip Status = "skip" // could not be asked, or is not asked of such an issuer
)

// A Result is what a check has found.
type Result struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	// For are the relying parties that it matters to, none for all.
	For []string `json:"for,omitempty"`
	// Seen is what there is. Why says to whom it matters, Do what to do:
	// both are empty unless it is a warning or a failure.
	Seen string `json:"seen"`
	Why  string `json:"why,omitempty"`
	Do   string `json:"do,omitempty"`
}

// Concerns reports whether the result matters to a relying party.
func (r Result) Concerns(party string) bool {
	return len(r.For) == 0 || slices.Contains(r.For, party)
}

func pass(format string, args ...any) Result {
	return Result{Status: Pass, Seen: fmt.Sprintf(format, args...)}
}

func skip(format string, args ...any) Result {
	return Result{Status: Skip, Seen: fmt.Sprintf(format, args...)}
}

func warn(seen, why, do string) Result { return Result{Status: Warn, Seen: seen, Why: why, Do: do} }
func fail(seen, why, do string) Result { return Result{Status: Fail, Seen: seen, Why: why, Do: do} }

// only narrows a result down to some relying parties.
func (r Result) only(parties ...string) Result {
	r.For = parties
	return r
}

// A Check asks one question.
type Check struct {
	// ID names it: what it looks at, a slash, and what about it.
	ID string `json:"check"`
	// Asks is the question.
	Asks string `json:"asks"`
	// For is the relying party whose rule it is, empty for everybody's.
	For string `json:"for,omitempty"`

	// look answers it. A result without For concerns whom the check does,
	// one without Status is not worth mentioning.
	look func(*Observation) Result
}

// List returns every check, in the order in which they are run.
func List() []Check {
	return slices.Concat(issuerChecks, documentChecks("discovery", (*Observation).configuration), discoveryChecks,
		documentChecks("jwks", (*Observation).keySet), keyChecks, partyChecks(), signerChecks, tokenChecks)
}

// A Report is what has come out.
type Report struct {
	Issuer  string       `json:"issuer"`
	Time    time.Time    `json:"time"`
	Results []Result     `json:"results"`
	Seen    *Observation `json:"-"`
}

// Count is how many results have a status.
func (r *Report) Count(s Status) (n int) {
	for _, result := range r.Results {
		if result.Status == s {
			n++
		}
	}
	return n
}

// First is the first failure that concerns a relying party, nil if there is
// none.
func (r *Report) First(party string) *Result {
	for i := range r.Results {
		if r.Results[i].Status == Fail && r.Results[i].Concerns(party) {
			return &r.Results[i]
		}
	}
	return nil
}

// ErrUnreachable is in the error of [Run] if no connection came about: that
// says nothing of the issuer.
var ErrUnreachable = errors.New("the issuer cannot be reached from here")

// Run asks the issuer and judges. An error means that it could not, and the
// report is nil then, or says of [ErrUnreachable] why.
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
	if d := &seen.Configuration; d.asked() && !d.connected() {
		return report, fmt.Errorf("%w: %s", ErrUnreachable, d.unreachable())
	}
	return report, nil
}

// judge runs the checks that concern somebody.
func judge(o *Observation) *Report {
	report := &Report{Issuer: o.Options.Issuer, Time: o.Time, Seen: o}
	for _, c := range List() {
		if c.For != "" && !slices.Contains(o.Options.Parties, c.For) {
			continue
		}
		r := c.look(o)
		r.Check = c.ID
		if c.For != "" && r.For == nil {
			r.For = []string{c.For}
		}
		if r.Status == "" || !slices.ContainsFunc(o.Options.Parties, r.Concerns) {
			continue
		}
		// Most of what was seen was written by the other side.
		const longest = 2000
		r.Seen, r.Why, r.Do = clean(r.Seen, longest), clean(r.Why, longest), clean(r.Do, longest)
		report.Results = append(report.Results, r)
	}
	return report
}
