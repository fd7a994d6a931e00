package main

import (
	"testing"

	"oidc-provider/internal/check"
)

func TestAnswers(t *testing.T) {
	whole := &check.Observation{Configuration: check.Document{Body: []byte("{}")}, KeySet: check.Document{Body: []byte("{}")}}
	for name, test := range map[string]struct {
		result      check.Result
		seen        *check.Observation
		aws, goOIDC string
	}{
		"all is well":             {check.Result{Check: "discovery/json", Status: check.Pass}, whole, "accepts", "accepts"},
		"a bad token":             {check.Result{Check: "token/times", Status: check.Fail}, whole, "refuses", "refuses"},
		"a rule of one":           {check.Result{Check: "aws/keys", Status: check.Fail, For: []string{"aws"}}, whole, "refuses", "accepts"},
		"an unusual audience":     {check.Result{Check: "token/aws", Status: check.Warn, For: []string{"aws"}}, whole, "depends", "accepts"},
		"a warning of a document": {check.Result{Check: "jwks/cache", Status: check.Warn}, whole, "accepts", "accepts"},
		"a type that few look at": {check.Result{Check: "discovery/content-type", Status: check.Fail}, whole, "depends", "depends"},
		"another issuer":          {check.Result{Check: "discovery/issuer", Status: check.Fail}, whole, "refuses", "refuses"},
		"no key set":              {check.Result{Check: "jwks/status", Status: check.Fail}, new(check.Observation), "refuses", "refuses"},
		"a replica without one":   {check.Result{Check: "jwks/status", Status: check.Fail}, whole, "depends", "depends"},
	} {
		for _, a := range answers(&check.Report{Results: []check.Result{test.result}, Seen: test.seen}) {
			if want := map[string]string{"aws": test.aws, "go-oidc": test.goOIDC}[a.Party]; want != "" && a.Answer != want {
				t.Errorf("%s: %s %s, want %s", name, a.Party, a.Answer, want)
			}
		}
	}
}

func TestStateOf(t *testing.T) {
	for _, test := range []struct {
		a, b check.Result
		same bool
	}{
		{check.Result{Check: "jwks/unique", Status: check.Fail, Seen: "a"}, check.Result{Check: "jwks/unique", Status: check.Fail, Seen: "b"}, false},
		{check.Result{Check: "jwks/count", Status: check.Pass, Seen: "2 keys"}, check.Result{Check: "jwks/count", Status: check.Pass, Seen: "3 keys"}, true},
		{check.Result{Check: "jwks/latency", Status: check.Warn, Seen: "1s"}, check.Result{Check: "jwks/latency", Status: check.Warn, Seen: "2s"}, true},
		{check.Result{Check: "jwks/latency", Status: check.Warn, Seen: "1s"}, check.Result{Check: "jwks/latency", Status: check.Pass, Seen: "1s"}, false},
	} {
		if got := stateOf(test.a) == stateOf(test.b); got != test.same {
			t.Errorf("%+v and %+v: the same %t, want %t", test.a, test.b, got, test.same)
		}
	}
}
