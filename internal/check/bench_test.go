package check_test

import (
	"testing"

	"oidc-provider/internal/check"
)

// BenchmarkRun checks a sound issuer on this machine: what it takes beyond the
// network.
func BenchmarkRun(b *testing.B) {
	r := newRig(b)
	r.options.Tries = 0
	r.options.Issuer = r.issuer
	r.options.ConnectTo = map[string][]string{"oidc.example.com:443": {r.serve()}}
	for b.Loop() {
		if _, err := check.Run(b.Context(), r.options); err != nil {
			b.Fatal(err)
		}
	}
}
