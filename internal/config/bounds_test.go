package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// repeat returns begin, as many copies of text as the bounds of an issuer file allow,
// and end.
func repeat(begin, text, end string) string {
	n := (maxIssuerFile - len(begin) - len(end)) / len(text)
	const sample = 100
	if per := float64(countValues([]byte(strings.Repeat(text, sample)))) / sample; per > 0 {
		left := maxValues - countValues([]byte(begin)) - countValues([]byte(end)) - 2
		n = min(n, int(float64(left)/per))
	}
	return begin + strings.Repeat(text, n) + end
}

// Whatever is in a file of IssuersDir, reading it costs at most 24 times the largest
// size of such a file.
func TestIssuerFilesAreBounded(t *testing.T) {
	const paths = "issuer: https://a.test\nfiles:\n  paths: "
	long := strings.Repeat("x", maxIssuerFile-20_000)
	for name, text := range map[string]string{
		"lists in lists":           repeat("", "[", ""),
		"maps in maps":             repeat("", "{", ""),
		"lists of one":             repeat("", "- ", ""),
		"maps of one":              repeat("", "? ", ""),
		"a list":                   repeat("", "- a\n", ""),
		"a list in brackets":       repeat("[", "a,", "a]"),
		"nulls":                    repeat("[", "~,", "~]"),
		"quotes":                   repeat("[", `"",`, `""]`),
		"empty maps":               repeat("[", "{},", "{}]"),
		"unknown fields":           repeat("{", "a,", "b: c}"),
		"unknown fields on lines":  repeat("", "ab:\n", ""),
		"the same field":           repeat("{", "issuer: a,", "issuer: b}"),
		"comments":                 repeat("", "#\n", ""),
		"comments of values":       repeat("", "# c\n- a\n", ""),
		"comments behind values":   repeat("", "- a # c\n", ""),
		"empty lines":              repeat("", "\n", ""),
		"empty documents":          repeat("", "---\n", ""),
		"documents":                repeat("", "--- a\n", ""),
		"anchors":                  repeat("[", "&a b,", "b]"),
		"tags":                     repeat("[", "!!str a,", "b]"),
		"paths":                    repeat(paths+"[", "a,", "a]"),
		"paths in directories":     paths + "[" + numbered("%x/b,", maxValues*9/10) + "a]",
		"patterns":                 repeat(paths+"[", "'[',", "a]"),
		"aliases of a long path":   repeat(paths+"[&a "+long+",", "*a,", "*a]"),
		"aliases of a short path":  repeat(paths+"[&a abc,", "*a,", "*a]"),
		"aliases of aliases":       laughs(10, 10),
		"aliases of many aliases":  laughs(400, 2),
		"merges of merges":         merges(),
		"an alias of itself":       "a: &a [*a, *a]",
		"a merge of itself":        "issuers: &a {<<: *a, issuer: x}",
		"merges of itself":         "issuers: &a {<<: [*a, *a], issuer: x}",
		"a long text":              "issuer: " + long,
		"a long name":              long + ": a",
		"a long name of a field":   "? " + long + "\n: a",
		"a long duration":          "jwksMaxAge: " + long,
		"a long text of quotes":    "issuer: '" + strings.Repeat("\x80\xff", maxIssuerFile/8) + "'",
		"a long text of escapes":   `issuer: "` + strings.Repeat(`\0`, maxIssuerFile/4) + `"`,
		"folded lines":             "issuer: >\n" + strings.Repeat(" a\n\n", maxIssuerFile/16),
		"binary":                   strings.Repeat("\x00", maxIssuerFile),
		"JSON":                     repeat(`{"a":[`, `{"a":"b"},`, `{}]}`),
		"more bytes than allowed":  strings.Repeat("#", maxIssuerFile+1),
		"more values than allowed": strings.Repeat("a,", maxIssuerFile/2),
		"more documents":           strings.Repeat("--- {issuer: a}\n", 65),
	} {
		t.Run(name, func(t *testing.T) {
			data := []byte(text)
			var before, after runtime.MemStats
			begin := time.Now()
			runtime.ReadMemStats(&before)
			_, err := parseIssuers("d/x.yaml", data, new(Config))
			runtime.ReadMemStats(&after)
			cost := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d bytes cost %d KiB, %v: %.100v", len(data), cost>>10, time.Since(begin).Round(time.Millisecond), err)
			if cost > 24*maxIssuerFile {
				t.Errorf("%d bytes cost %d", len(data), cost)
			}
			if err == nil || len(err.Error()) > 128<<10 {
				t.Errorf("the error has %d bytes", len(fmt.Sprint(err)))
			}
		})
	}
}

// numbered repeats a format with the numbers below n.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// laughs has lists of n aliases of each other.
func laughs(lists, n int) string {
	var b strings.Builder
	b.WriteString("a0: &a0 x\n")
	for i := range lists {
		fmt.Fprintf(&b, "a%d: &a%[1]d [%s]\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), n))
	}
	return b.String()
}

// merges has maps that contain each other twice.
func merges() string {
	var b strings.Builder
	b.WriteString("- &a0 {issuer: x}\n")
	for i := range 200 {
		fmt.Fprintf(&b, "- &a%d {<<: [*a%d, *a%[2]d]}\n", i+1, i)
	}
	return b.String()
}

// Sound files are far below the bounds.
func TestBoundsLeaveRoom(t *testing.T) {
	dir := t.TempDir()
	var b strings.Builder
	for i := range maxDocuments {
		fmt.Fprintf(&b, "---\n# Issuer %d of a tenant, whose keys come from its own cluster.\nissuer: https://oidc.example.com/tenants/%[1]d\n"+
			"jwksMaxAge: 1m\ndiscoveryMaxAge: 30m\nfiles:\n  interval: 10s\n  paths:\n", i)
		for j := range 10 {
			fmt.Fprintf(&b, "  - /etc/oidc-provider/tenants/%d/service-account-%d.pub\n", i, j)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	d := NewDir(&Config{IssuersDir: dir, IssuersDirAllow: DirAllow{Roots: []string{"/etc/oidc-provider/tenants"}}})
	d.Scan(time.Now(), true)
	issuers, problems := d.Issuers()
	if n := countValues([]byte(b.String())); n > maxValues*3/4 {
		t.Errorf("a file like this has %d of %d values", n, maxValues)
	}
	if len(issuers) != maxDocuments || len(problems) > 0 {
		t.Errorf("%d issuers, and %v", len(issuers), problems)
	}
}

// What is in a file of IssuersDir costs little, and is refused or sound.
func FuzzIssuerFile(f *testing.F) {
	f.Add([]byte("issuer: https://a.test\nfiles: {paths: [a, *b]}\n---\n- &a {<<: *a}"))
	f.Add([]byte(laughs(5, 5)))
	f.Add([]byte(merges()[:500]))
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		begin := time.Now()
		runtime.ReadMemStats(&before)
		issuers, err := parseIssuers("d/x.yaml", data, new(Config))
		runtime.ReadMemStats(&after)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%d bytes took %v", len(data), took)
		}
		if cost := after.TotalAlloc - before.TotalAlloc; cost > 24*maxIssuerFile {
			t.Errorf("%d bytes cost %d", len(data), cost)
		}
		if err == nil && (len(issuers) == 0 || len(issuers) > maxDocuments) {
			t.Errorf("%d issuers", len(issuers))
		}
	})
}
