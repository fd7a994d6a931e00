package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/clock"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// wrongWitness returns the URL of an empty key set on a machine from whose point of
// view this one is ahead.
func wrongWitness(t *testing.T, ahead time.Duration) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-ahead).UTC().Format(http.TimeFormat))
		w.Write([]byte(`{"keys":[]}`))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// A command whose clock is known to be wrong changes nothing, and one whose clock
// may be wrong says so.
func TestChangesWithAWrongClock(t *testing.T) {
	if clock.Synchronised() {
		t.Skip("the kernel confirms the clock, so no witness is asked")
	}
	const day = 24 * time.Hour
	dir := filepath.Join(t.TempDir(), "keys")
	command := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := run(context.Background(), append(args, "--store", dir), strings.NewReader(""), &out, &out)
		return code, out.String()
	}
	if code, out := command("keys", "init", "--issuer", "http://localhost:8080", "--algorithm", "ES256"); code != 0 {
		t.Fatal(out)
	}
	t.Setenv("OIDC_PROVIDER_TRUST_CLOCK", "false")
	ring := filepath.Join(dir, "ring.json")
	for _, tt := range []struct {
		name    string
		args    []string
		changes bool
		says    string
	}{
		{"no evidence, a ring that was just written", nil, true, ""},
		{"confirmed", []string{"--witness", wrongWitness(t, 0)}, true, ""},
		{"ahead", []string{"--witness", wrongWitness(t, 40*day)}, false, "960h0m0s ahead of that of http://127.0.0.1"},
		{"behind", []string{"--witness", wrongWitness(t, -time.Hour)}, false, "--trust-clock changes the ring anyway"},
		{"two against one", []string{"--witness", wrongWitness(t, 40*day), "--witness", wrongWitness(t, 40*day), "--witness", wrongWitness(t, 0)}, false, "ahead"},
		{"trusted", []string{"--witness", wrongWitness(t, 40*day), "--trust-clock"}, true, ""},
	} {
		before, err := os.ReadFile(ring)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ReplaceAll(strings.ReplaceAll(tt.name, " ", "-"), ",", "")
		code, out := command(append([]string{"keys", "copies", "add", name}, tt.args...)...)
		after, err := os.ReadFile(ring)
		if err != nil {
			t.Fatal(err)
		}
		if changed := !bytes.Equal(before, after); changed != tt.changes || changed != (code == 0) || !strings.Contains(out, tt.says) ||
			strings.Contains(out, "nothing confirms") {
			t.Errorf("%s: exit status %d, changed %v, %s", tt.name, code, changed, out)
		}
	}

	// With a clock that is behind, every ring seems to be from the future.
	s, err := store.Open(store.Config{Store: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Update(t.Context(), func(r *rotation.Ring) (*rotation.Ring, error) {
		return rotation.SetPolicy(r, rotation.Policy{Schedule: "@weekly"}, time.Now().Add(day))
	}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		ok   bool
		says string
	}{
		{nil, false, "nothing confirms that the clock is right"},
		{[]string{"--witness", wrongWitness(t, -day)}, false, "24h0m0s behind that of"},
		{[]string{"--witness", wrongWitness(t, 0)}, true, "It is from now:"},
		{[]string{"--witness", wrongWitness(t, 0)}, false, "the ring is not from the future"},
	} {
		code, out := command(append([]string{"keys", "repair", "--clock"}, tt.args...)...)
		if (code == 0) != tt.ok || !strings.Contains(out, tt.says) {
			t.Errorf("keys repair %v: exit status %d, %s", tt.args, code, out)
		}
	}
}
