package check

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// result returns what judge makes of r: it has the traits of its check.
func result(t *testing.T, r Result) Result {
	t.Helper()
	checks := List()
	i := slices.IndexFunc(checks, func(c Check) bool { return c.ID == r.Check })
	if i < 0 {
		t.Fatalf("no check %s", r.Check)
	}
	return checks[i].complete(r)
}

func TestVerdicts(t *testing.T) {
	parties := Options{Parties: []string{"aws", "go-oidc"}}
	document := Document{URL: "https://oidc.example.com", Answers: []Answer{{}}}
	lacking := &Observation{Options: parties, Discovery: document}
	document.Body = []byte("{}")
	whole := &Observation{Options: parties, Discovery: document, KeySet: document}
	gone := &Observation{Options: parties, Discovery: Document{URL: document.URL}}
	for _, test := range []struct {
		name   string
		result Result
		seen   *Observation
		want   []Decision // of AWS and of go-oidc
	}{
		{"all is well", Result{Check: "discovery/json", Status: Pass}, whole, []Decision{Accepts, Accepts}},
		{"a bad token", Result{Check: "token/times", Status: Fail}, whole, []Decision{Refuses, Refuses}},
		{"a rule of one", Result{Check: "aws/keys", Status: Fail}, whole, []Decision{Refuses, Accepts}},
		{"a result for one", Result{Check: "jwks/use", Status: Fail, For: []string{"aws"}}, whole, []Decision{Refuses, Accepts}},
		{"an unusual audience", Result{Check: "token/aws", Status: Warn}, whole, []Decision{Depends, Accepts}},
		{"a warning about a document", Result{Check: "jwks/cache", Status: Warn}, whole, []Decision{Accepts, Accepts}},
		{"a type that few check", Result{Check: "discovery/content-type", Status: Fail}, whole, []Decision{Depends, Depends}},
		{"another issuer", Result{Check: "discovery/issuer", Status: Fail}, whole, []Decision{Refuses, Refuses}},
		{"no key set", Result{Check: "jwks/status", Status: Fail}, lacking, []Decision{Refuses, Refuses}},
		{"a replica without one", Result{Check: "jwks/status", Status: Fail}, whole, []Decision{Depends, Depends}},
		{"unreachable from here", Result{Check: "discovery/answer", Status: Fail}, gone, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			report := &Report{Results: []Result{result(t, test.result)}, Seen: test.seen}
			var got []Decision
			for _, v := range report.verdicts() {
				got = append(got, v.Answer)
				if (v.Check == "") != (v.Answer == Accepts) {
					t.Errorf("%+v: want the check that decided", v)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCorrect(t *testing.T) {
	refused := Verdict{Party: "go-oidc", Title: "go-oidc", Answer: Refuses, Check: "token/times", Seen: "expired"}
	accepted := Verdict{Party: "go-oidc", Title: "go-oidc", Answer: Accepts}
	said := Verdict{Party: "go-oidc", Title: "go-oidc", Answer: Refuses, Seen: "said so"}
	for _, test := range []struct {
		name    string
		judged  Verdict
		refusal error
		want    Verdict
	}{
		{name: "both accept", judged: accepted, want: accepted},
		{name: "only the checks refuse", judged: refused, want: accepted},
		{name: "both refuse", judged: refused, refusal: errors.New("said so"), want: refused},
		{name: "only the checks accept", judged: accepted, refusal: errors.New("said so"), want: said},
	} {
		t.Run(test.name, func(t *testing.T) {
			other := Verdict{Party: "aws", Title: "AWS STS", Answer: Depends}
			report := &Report{RelyingParties: []Verdict{other, test.judged}}
			report.Correct("go-oidc", test.refusal)
			if diff := cmp.Diff([]Verdict{other, test.want}, report.RelyingParties); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFindings(t *testing.T) {
	report := &Report{}
	for _, r := range []Result{
		{Check: "issuer/url", Status: Pass},
		{Check: "jwks/cache", Status: Warn},
		{Check: "jwks/status", Status: Fail},
		{Check: "jwks/http10", Status: Skip},
		{Check: "aws/keys", Status: Fail},
		{Check: "token/times", Status: Fail},
		{Check: "token/subject", Status: Warn},
	} {
		report.Results = append(report.Results, result(t, r))
	}
	var got []string
	for _, r := range report.Findings() {
		got = append(got, r.Check)
	}
	want := []string{"aws/keys", "token/times", "jwks/status", "jwks/cache", "token/subject"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestChanged(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b Result
		want bool
	}{
		{"another fault", Result{Check: "jwks/unique", Status: Fail, Seen: "a"}, Result{Check: "jwks/unique", Status: Fail, Seen: "b"}, true},
		{"a pass", Result{Check: "jwks/count", Status: Pass, Seen: "2 keys"}, Result{Check: "jwks/count", Status: Pass, Seen: "3 keys"}, false},
		{"another time", Result{Check: "jwks/latency", Status: Warn, Seen: "1s"}, Result{Check: "jwks/latency", Status: Warn, Seen: "2s"}, false},
		{"another status", Result{Check: "jwks/latency", Status: Warn, Seen: "1s"}, Result{Check: "jwks/latency", Status: Pass, Seen: "1s"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := result(t, test.a).Changed(result(t, test.b)); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

// TestVolatile names the checks whose findings differ from one run to the next
// although nothing has changed, and those that verify who answered.
func TestVolatile(t *testing.T) {
	var volatile, authenticate []string
	for _, c := range List() {
		if c.Volatile {
			volatile = append(volatile, c.ID)
		}
		if c.Authenticates {
			authenticate = append(authenticate, c.ID)
		}
	}
	want := []string{"discovery/answer", "discovery/expiry", "discovery/latency", "jwks/answer", "jwks/expiry", "jwks/latency",
		"aws/wait", "spring/wait", "jose/wait"}
	if diff := cmp.Diff(want, volatile); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"discovery/certificate", "jwks/certificate"}, authenticate); diff != "" {
		t.Error(diff)
	}
}
