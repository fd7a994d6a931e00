package check

import (
	"slices"
	"time"
)

// A Report is the outcome of all checks.
type Report struct {
	Issuer  string    `json:"issuer"`
	Time    time.Time `json:"time"`
	Results []Result  `json:"results"`
	// RelyingParties has a verdict for each relying party that was judged for,
	// none if the issuer was unreachable.
	RelyingParties []Verdict    `json:"relyingParties"`
	Seen           *Observation `json:"-"`
}

// Count returns how many results have a status.
func (r *Report) Count(s Status) (n int) {
	for _, result := range r.Results {
		if result.Status == s {
			n++
		}
	}
	return n
}

// First returns the first failure that concerns a relying party, nil if there
// is none.
func (r *Report) First(party string) *Result {
	return r.first(party, func(r Result) bool { return r.Status == Fail })
}

// Findings returns the failures and warnings, the most important first.
func (r *Report) Findings() []Result {
	findings := slices.DeleteFunc(slices.Clone(r.Results), func(r Result) bool { return r.rank() == 0 })
	slices.SortStableFunc(findings, func(a, b Result) int { return b.rank() - a.rank() })
	return findings
}

// rank returns how important a result is, 0 if there is nothing to do.
func (r Result) rank() int {
	switch {
	case r.Status == Fail && r.Decisive:
		return 3
	case r.Status == Fail:
		return 2
	case r.Status == Warn:
		return 1
	}
	return 0
}

// Authentic reports whether every certificate that was seen is valid for its
// host. If not, what was seen may come from an attacker.
func (r *Report) Authentic() bool {
	return !slices.ContainsFunc(r.Results, func(r Result) bool { return r.Status == Fail && r.Authenticates })
}

// A Decision is what a relying party does with the issuer's tokens.
type Decision string

const (
	Accepts Decision = "accepts"
	Depends Decision = "depends" // on its version, its settings or the replica that it asks
	Refuses Decision = "refuses"
)

// A Verdict says what a relying party does with a token, or with all tokens of
// the issuer if no token was judged, once it trusts this issuer, subject and
// audience.
type Verdict struct {
	Party  string   `json:"party"`
	Title  string   `json:"title"`
	Answer Decision `json:"answer"`
	// The check that decided, and its result. Empty if it accepts.
	Check string `json:"check,omitempty"`
	Seen  string `json:"seen,omitempty"`
	Why   string `json:"why,omitempty"`
	Do    string `json:"do,omitempty"`
}

// verdicts returns the verdict of each relying party that was judged for.
func (r *Report) verdicts() []Verdict {
	all := []Verdict{}
	if r.Seen.unreachable() {
		return all
	}
	for _, p := range Parties {
		if slices.Contains(r.Seen.Options.Parties, p.Name) {
			all = append(all, r.verdict(p))
		}
	}
	return all
}

func (r *Report) verdict(p Party) Verdict {
	v := Verdict{Party: p.Name, Title: p.Title, Answer: Refuses}
	reason := r.first(p.Name, r.decides)
	if reason == nil {
		v.Answer = Depends
		reason = r.first(p.Name, Result.troubles)
	}
	if reason == nil {
		v.Answer = Accepts
		return v
	}
	v.Check, v.Seen, v.Why, v.Do = reason.Check, reason.Seen, reason.Why, reason.Do
	return v
}

// first returns the first result of a kind that concerns a relying party, nil
// if there is none.
func (r *Report) first(party string, is func(Result) bool) *Result {
	for i := range r.Results {
		if result := &r.Results[i]; result.Concerns(party) && is(*result) {
			return result
		}
	}
	return nil
}

// decides reports whether a result makes a relying party refuse. Without one of
// the documents, every failure does.
func (r *Report) decides(result Result) bool {
	lacking := r.Seen.Discovery.Body == nil || r.Seen.KeySet.Body == nil
	return result.Status == Fail && (lacking || result.Decisive)
}

// troubles reports whether a result may make a relying party refuse: a failure,
// or a warning about the token.
func (r Result) troubles() bool {
	return r.Status == Fail || r.Status == Warn && r.Topic() == "token"
}

// Correct replaces the verdict of a relying party with what it really answered:
// refusal is its error, nil if it accepted. A refusal that the checks predicted
// keeps their explanation.
func (r *Report) Correct(party string, refusal error) {
	for i := range r.RelyingParties {
		v := &r.RelyingParties[i]
		switch {
		case v.Party != party:
		case refusal == nil:
			*v = Verdict{Party: v.Party, Title: v.Title, Answer: Accepts}
		case v.Answer != Refuses:
			*v = Verdict{Party: v.Party, Title: v.Title, Answer: Refuses, Seen: clean(refusal.Error(), longest)}
		}
	}
}
