package check

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// list joins items as in a sentence, and shortens long lists.
func list(items []string) string {
	const most = 8
	if more := len(items) - most; more > 0 {
		items = append(slices.Clone(items[:most]), fmt.Sprintf("%d more", more))
	}
	clean := make([]string, len(items))
	for i, item := range items {
		clean[i] = name(item)
	}
	switch n := len(clean); n {
	case 0:
		return "none"
	case 1:
		return clean[0]
	default:
		return strings.Join(clean[:n-1], ", ") + " and " + clean[n-1]
	}
}

// name makes a name that the other side has chosen safe to print.
func name(s string) string { return clean(s, 200) }

// clean replaces everything that a terminal would not just print, and shortens
// the text to longest bytes.
func clean(s string, longest int) string {
	s = strings.ToValidUTF8(strings.Map(printable, s), "?")
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}

func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return ' '
	}
	return r
}

func sorted(items []string) []string {
	slices.Sort(items)
	return items
}

func intersect(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}
