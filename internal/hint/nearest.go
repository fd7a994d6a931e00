package hint

import (
	"strings"

	"github.com/agext/levenshtein"
)

// Nearest returns the one of names that the author of name probably meant: the
// most similar one, without regard to case. It returns "" if none is similar.
func Nearest(name string, names []string) string {
	best, distance := "", len(name)/2+1
	for _, candidate := range names {
		if d := levenshtein.Distance(strings.ToLower(name), strings.ToLower(candidate), nil); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}
