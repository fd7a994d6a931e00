package describe_test

import (
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/describe"
	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		24 * time.Hour: "24h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", time.Hour + time.Second: "1h0m1s",
		6 * time.Second: "6s", 0: "0s", 100 * time.Minute: "1h40m", 720 * time.Hour: "720h",
	} {
		if got := describe.Duration(rotation.Duration(d)); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestRelative(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		30 * 24 * time.Hour: "in 30d", -5 * time.Minute: "5m ago", 0: "0s ago", 24 * time.Hour: "in 24h",
	} {
		if got := describe.Relative(now.Add(d), now); got != want {
			t.Errorf("Relative(%v) = %q, want %q", d, got, want)
		}
	}
}

// A ring is followed from its first key to a rotation that waits for a copy.
func TestRing(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r, err := rotation.New("https://a.test", rotation.Policy{Algorithm: "ES256"}, now, rotation.GenerateKey)
	if err != nil {
		t.Fatal(err)
	}
	says := func(want ...string) {
		t.Helper()
		var b strings.Builder
		describe.Keys(&b, r, now)
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != len(want) {
			t.Fatalf("%d keys, want %d:\n%s", len(lines), len(want), b.String())
		}
		for i, line := range lines {
			if !strings.HasSuffix(line, want[i]) {
				t.Errorf("key %d: %q, want it to end with %q", i, line, want[i])
			}
		}
	}
	waits := func(want string) {
		t.Helper()
		planned, err := describe.NextRotation(r, r.At(now))
		if got := planned + hint.Text(err, hint.Field); !strings.Contains(got, want) {
			t.Errorf("the next rotation: %q, want it to contain %q", got, want)
		}
	}
	advance := func(confirmed string) {
		t.Helper()
		next, _, err := rotation.Advance(r, now, confirmed, rotation.GenerateKey)
		if err != nil {
			t.Fatal(err)
		}
		r = next
	}
	says("signs", "is next, and will sign 24h after a server has published it, or later")
	waits("not planned yet")

	if r, _, err = rotation.AddCopy(r, "google", now); err != nil {
		t.Fatal(err)
	}
	standby := r.Standby(r.At(now)).KeyID
	says("signs, but copy google has not confirmed it",
		"is next, and will sign 24h after a server has published it and copy google has confirmed it")
	advance(standby)
	says("signs, but copy google has not confirmed it", "is next, and will sign 24h after copy google has confirmed it")
	waits("and waits for copy google, while the active key signs (hint: update the copies")

	if r, err = rotation.ConfirmCopy(r, "google", now, standby, r.Active(now).KeyID); err != nil {
		t.Fatal(err)
	}
	says("signs", "is next, and will sign at 2026-01-02T00:00:00Z or later: a server is about to plan it")
	advance("")
	says("signs", "is next, and will sign at 2026-01-31T00:00:00Z")
	waits("signs from 2026-01-31T00:00:00Z")

	now = now.Add(30 * 24 * time.Hour)
	advance("")
	says("verifies until 2026-02-01T00:10:00Z", "signs",
		"is next, and will sign 24h after a server has published it and copy google has confirmed it")
}
