package main

import (
	"strings"
	"testing"
	"time"

	"oidc-provider/rotation"
)

// A revoked key signs no more, whatever was planned for it, and left the key set when
// it was revoked.
func TestKeyTableOfRevokedKeys(t *testing.T) {
	now := time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)
	at := func(days int) *time.Time { t := now.AddDate(0, 0, days); return &t }
	for _, tt := range []struct {
		name string
		key  keyInfo
		want string
	}{
		{"had signed", keyInfo{SignFrom: at(-5), SignUntil: at(-1), RevokedAt: at(-1)}, "5d ago 24h ago 24h ago"},
		{"was to sign", keyInfo{SignFrom: at(5), RevokedAt: at(-3)}, "- - 3d ago"},
		{"had no date", keyInfo{RevokedAt: at(-3)}, "- - 3d ago"},
		{"retired before", keyInfo{SignFrom: at(-9), SignUntil: at(-5), RevokedAt: at(-3)}, "9d ago 5d ago 3d ago"},
		{"signed without an end", keyInfo{SignFrom: at(-9), RevokedAt: at(-3)}, "9d ago 3d ago 3d ago"},
	} {
		tt.key.KeyID, tt.key.Algorithm, tt.key.Phase, tt.key.RemoveAt = "kid", "ES256", rotation.Revoked, at(20)
		var b strings.Builder
		if err := printKeyTable(&b, []keyInfo{tt.key}, now); err != nil {
			t.Fatal(err)
		}
		_, row, _ := strings.Cut(b.String(), "\n")
		if got := strings.Join(strings.Fields(row), " "); got != "kid ES256 revoked "+tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
