package check

import "fmt"

// Bounds of a document's JSON. What is made of it in memory is many times as large as
// its bytes, if it has many small values. No relying party needs half as many.
const (
	maxValues = 5000
	maxDepth  = 100
	maxJWKs   = 500
)

// tooComplex returns an error if the JSON exceeds these bounds. It allocates nothing,
// and data need not be valid.
func tooComplex(data []byte) error {
	values, depth := 1, 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			depth++
			values++
		case ']', '}':
			depth--
		case ',':
			values++
		}
		if values > maxValues {
			return fmt.Errorf("it has more than %d values", maxValues)
		}
		if depth > maxDepth {
			return fmt.Errorf("it is nested more than %d levels deep", maxDepth)
		}
	}
	return nil
}
