package hint_test

import (
	"testing"

	"oidc-provider/internal/hint"
)

func TestNearest(t *testing.T) {
	names := []string{"listen", "issuer", "issuersDir", "list"}
	for _, tt := range []struct{ name, want string }{
		{"listen", "listen"},
		{"lst", "list"},
		{"LISTN", "listen"},
		{"issuerr", "issuer"},
		{"issuersdir", "issuersDir"},
		{"x", ""},
		{"", ""},
		{"publish", ""},
	} {
		if got := hint.Nearest(tt.name, names); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
