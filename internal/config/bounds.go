package config

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"oidc-provider/internal/hint"
)

// Bounds of a file. Reading any file of IssuersDir costs at most 24 times
// maxIssuerFile of memory.
const (
	// maxFile, in bytes, is far more than any configuration file that a person
	// writes.
	maxFile = 16 << 20

	// A file of IssuersDir may come from someone else than the configuration file.
	// It has at most maxIssuerFile bytes, or twice as many with its aliases
	// replaced, maxDocuments documents, and about maxValues keys and values.
	maxIssuerFile = 256 << 10
	maxDocuments  = 64
	maxValues     = 2800

	// maxProblems is how many problems of a document are reported, and how many
	// documents, and maxText is how many bytes each report has: it may quote the
	// file.
	maxProblems = 50
	maxText     = 1 << 10

	// maxName is the longest name that is compared with those of fields.
	maxName = 64
)

const manyFiles = "issuersDir takes any number of small files"

// bounds are those of one file, zero for none.
type bounds struct {
	size              int // in bytes
	documents, values int
}

var (
	mainBounds   = bounds{size: maxFile}
	issuerBounds = bounds{size: maxIssuerFile, documents: maxDocuments, values: maxValues}
)

// check refuses data before it is parsed: a value of two bytes costs hundreds.
func (b bounds) check(data []byte) error {
	switch {
	case len(data) > b.size:
		return hint.Errorf(manyFiles, "larger than %d KiB", b.size>>10)
	case b.values > 0 && countValues(data) > b.values:
		return hint.Errorf(manyFiles, "more than %d values", b.values)
	}
	return nil
}

// countValues returns about how many keys and values YAML has. It is never less
// than half of them.
func countValues(data []byte) (n int) {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		n++
		for i, c := range line {
			switch c {
			case ',', '[', '{':
				n++
			case ':', '-', '?':
				if i+1 < len(line) && (line[i+1] == ' ' || line[i+1] == '\t') {
					n++
				}
			}
		}
	}
	return n
}

// checkAliases returns an error if a document has more than twice size bytes with
// its aliases replaced, as one has that contains itself.
func (b bounds) checkAliases(document *yaml.Node) error {
	most := 2 * b.size
	if b.expanded(document, most, make(map[*yaml.Node]bool)) > most {
		return fmt.Errorf("larger than %d KiB with its aliases replaced", most>>10)
	}
	return nil
}

// expanded returns the size of n, or more than most if it is more. It is inside of
// the nodes in around.
func (b bounds) expanded(n *yaml.Node, most int, around map[*yaml.Node]bool) int {
	size := len(n.Value) + 1
	if n.Kind == yaml.AliasNode {
		if around[n.Alias] {
			return most + 1
		}
		around[n.Alias] = true
		defer delete(around, n.Alias)
		return size + b.expanded(n.Alias, most-size, around)
	}
	for _, child := range n.Content {
		if size > most {
			break
		}
		size += b.expanded(child, most-size, around)
	}
	return size
}

// shorten returns text, or its beginning.
func shorten(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
