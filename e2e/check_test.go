package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestCheck checks, through the binary, our server that signs for a real API
// server with a token of that, and the API server itself, which shows its
// documents to nobody without a login.
func TestCheck(t *testing.T) {
	lab := newLab(t)
	p := lab.newProvider(calm)
	p.init()
	p.start()
	c := lab.newCluster()
	c.start(p.issuer, p.signerFlags()...)
	token := c.mustToken(t, audience)

	results, code := p.check(t, token, p.issuer, "--for", "vault,kubernetes,go-oidc,spring", "--publish-ahead", p.policy.publishAhead.String(),
		"--signer-socket", p.socket, "--audience", audience, "--token", "-")
	for _, r := range results {
		// The keys are kept for two seconds here, which is worth a warning.
		if r.Status == "fail" || r.Status == "warn" && !strings.HasSuffix(r.Check, "/cache") {
			t.Errorf("our server: %+v", r)
		}
	}
	if code != 0 {
		t.Errorf("our server: exit status %d, want 0", code)
	}
	for _, check := range []string{"jwks/certificate", "token/signature", "token/audience", "signer/published", "kubernetes/keys"} {
		if got := verdictOn(results, check); got != "pass" {
			t.Errorf("our server: %s is %q, want pass", check, got)
		}
	}

	results, code = p.check(t, "", fmt.Sprintf("https://localhost:%d", c.port), "--for", "vault")
	for _, r := range results {
		if r.Status == "fail" {
			if r.Check != "discovery/status" || !strings.Contains(r.Do, "kube-apiserver itself asks for a login") {
				t.Errorf("the API server: %+v fails first, want discovery/status with the reason", r)
			}
			break
		}
	}
	if code != 1 {
		t.Errorf("the API server: exit status %d, want 1", code)
	}
	c.stop()
	p.stop()
}

type checkResult struct{ Check, Status, Seen, Why, Do string }

func verdictOn(results []checkResult, check string) string {
	for _, r := range results {
		if r.Check == check {
			return r.Status
		}
	}
	return ""
}

// check runs `oidc-provider check -o json` and returns its results and exit
// status.
func (p *provider) check(t *testing.T, stdin string, args ...string) ([]checkResult, int) {
	t.Helper()
	out, err := p.run(t.Context(), stdin, append([]string{"check", "--ca-file", p.lab.ca.caFile, "-o", "json"}, args...)...)
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	var report struct{ Results []checkResult }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%v\n%s", err, out, err)
	}
	return report.Results, code
}
