package check_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/check"
)

// The table in the documentation has the same facts.
func TestCachesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	cell := func(d time.Duration, never string) string {
		switch {
		case d == check.Unmeasured:
			return "–"
		case d == check.UntilExpiry:
			return never
		case d == time.Hour:
			return "until exp (1 h)"
		case d == 0:
			return "at once"
		}
		return fmt.Sprintf("%d s", d/time.Second)
	}
	for _, c := range check.Caches {
		row := fmt.Sprintf("| %s | %s | %s | %s | %s |", c.Title, c.Version, cell(c.NewKey, "never in 945 s"),
			cell(c.Revoked, "until exp"), cell(c.Flushed, "no effect"))
		if !strings.Contains(strings.ReplaceAll(string(doc), "`", ""), row) {
			t.Errorf("docs/check.md lacks the row\n%s", row)
		}
	}
}

func TestDelays(t *testing.T) {
	find := func(list []check.Delay, title string) time.Duration {
		for _, d := range list {
			if slices.Contains(d.Titles, title) {
				return d.After
			}
		}
		t.Errorf("%s is missing", title)
		return 0
	}
	for _, tt := range []struct {
		title           string
		newKey, revoked time.Duration
		flush           bool
	}{
		{"Vault jwt auth", 0, check.UntilExpiry, true},
		{"PyJWT", 0, 5 * time.Minute, true},
		{"jwx v2, v3", 15 * time.Minute, 15 * time.Minute, false},
		{"Istio", 20 * time.Minute, 20 * time.Minute, false},
		{".NET ConfigurationManager", 0, 12 * time.Hour, true},
		{"hono/jwk", 0, 0, false},
		{"@hapi/jwt", check.UntilExpiry, check.UntilExpiry, false},
	} {
		if got := find(check.NewKeyDelays(), tt.title); got != tt.newKey {
			t.Errorf("%s: new key after %v, want %v", tt.title, got, tt.newKey)
		}
		if got := find(check.RevokedDelays(), tt.title); got != tt.revoked {
			t.Errorf("%s: revoked after %v, want %v", tt.title, got, tt.revoked)
		}
		if got := slices.Contains(check.Flushable(), tt.title); got != tt.flush {
			t.Errorf("%s: flushable %v, want %v", tt.title, got, tt.flush)
		}
	}
	list := check.RevokedDelays()
	if last := list[len(list)-1]; last.After != check.UntilExpiry {
		t.Errorf("the last delay is %v, want that without an end", last.After)
	}
}
