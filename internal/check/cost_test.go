package check

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// A document costs at most 20 times its size, and what a small one costs is bounded:
// 5000 values are 4 MiB at most.
func checkCost(t testing.TB, what string, data []byte) {
	t.Helper()
	for name, f := range map[string]func(){
		"parseKeySet":   func() { _, _ = parseKeySet(data) },
		"parseMetadata": func() { _, _ = parseMetadata(data) },
		"canonical":     func() { canonical(data) },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if cost, limit := after.TotalAlloc-before.TotalAlloc, uint64(20*len(data)+4<<20); cost > limit {
			t.Errorf("%s of %s: %d bytes cost %d bytes, more than %d", name, what, len(data), cost, limit)
		}
	}
}

func TestCost(t *testing.T) {
	fill := func(n int, before, each, after string) string {
		return before + strings.TrimSuffix(strings.Repeat(each, n), ",") + after
	}
	var distinct strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&distinct, `"%x":1,`, i)
	}
	for name, data := range map[string]string{
		"empty entries":    fill(349_000, `{"keys":[`, `{},`, `]}`),
		"500 entries":      fill(500, `{"keys":[`, `{},`, `]}`),
		"numbers":          fill(500_000, `{"keys":[`, `1,`, `]}`),
		"many members":     `{` + distinct.String() + `"keys":[]}`,
		"a key with many":  `{"keys":[{` + distinct.String() + `"kty":"RSA"}]}`,
		"objects":          fill(1600, `{"keys":[],"a":[`, `{"a":{}},`, `]}`),
		"deep":             strings.Repeat(`{"a":`, 90) + `1` + strings.Repeat(`}`, 90),
		"too deep":         strings.Repeat(`[`, 1<<20),
		"a long string":    `{"keys":[{"kid":"` + strings.Repeat("x", 1<<20-30) + `"}]}`,
		"escapes":          `{"keys":[{"kid":"` + strings.Repeat(`\u0061`, 170_000) + `"}]}`,
		"a long modulus":   `{"keys":[{"kty":"RSA","e":"AQAB","n":"` + strings.Repeat("x", 1<<20-60) + `"}]}`,
		"certificates":     `{"keys":[{"kty":"RSA","e":"AQAB","n":"AQAB","x5c":[` + strings.TrimSuffix(strings.Repeat(`"MIIB",`, 4000), ",") + `]}]}`,
		"HTML with commas": `<html>` + strings.Repeat(",", 1<<20-6),
	} {
		checkCost(t, name, []byte(data))
	}
}
