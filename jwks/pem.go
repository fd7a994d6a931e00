package jwks

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Contents are the keys in a file.
type Contents struct {
	Private []*SigningKey
	Public  []PublicKey
	// Skipped says what else is in the file, by its position: keys that
	// [NewPublicKey] does not accept, and other things than keys.
	Skipped []error
}

// All returns the public halves of all keys.
func (c *Contents) All() []PublicKey {
	all := slices.Clone(c.Public)
	for _, k := range c.Private {
		all = append(all, k.PublicKey)
	}
	return all
}

// Check returns why there is no key, and nil if there is one.
func (c *Contents) Check() error {
	switch {
	case len(c.Private)+len(c.Public) > 0:
		return nil
	case len(c.Skipped) > 1:
		return fmt.Errorf("no usable key: %w", errors.Join(c.Skipped...))
	case len(c.Skipped) == 1:
		return c.Skipped[0]
	}
	return &NoKeyError{errors.New("no key found: it has none")}
}

// maxBlocks is how many PEM blocks a file may have.
const maxBlocks = 1000

// ParseFile parses the keys in a file, which is a JSON Web Key Set, as in [Filter],
// or PEM, as in [ParsePEM]. Unlike that it returns a key that is not supported, or a
// block without a key, among the skipped ones. A block that is damaged is an error:
// a key would be missing. If it is neither of the two forms, or has no PEM blocks,
// the error is a [NoKeyError]. Errors never quote the data.
func ParseFile(data []byte) (*Contents, error) {
	if start := bytes.TrimLeft(bytes.TrimPrefix(data, bom), " \t\r\n"); bytes.HasPrefix(start, []byte("{")) {
		keys, skipped, err := Filter(data)
		if err != nil {
			return nil, err
		}
		return &Contents{Public: keys, Skipped: skipped}, nil
	}
	return parseBlocks(data)
}

// ParsePEM parses the keys in data, in the PEM forms that kube-apiserver accepts
// for --service-account-signing-key-file and --service-account-key-file: private
// keys as PKCS #1, SEC 1 or PKCS #8, public keys as PKIX or PKCS #1, and
// certificates, whose public key is used. As there, the label of a block does not
// need to fit. It skips EC PARAMETERS, which openssl writes, and returns an error for
// every other block without a key that [NewPublicKey] accepts. Errors never quote
// the data.
func ParsePEM(data []byte) (private []*SigningKey, public []PublicKey, err error) {
	c, err := parseBlocks(data)
	switch {
	case err != nil:
		return nil, nil, err
	case len(c.Skipped) > 0:
		return nil, nil, c.Skipped[0]
	}
	return c.Private, c.Public, c.Check()
}

// parseBlocks parses the keys in PEM blocks.
func parseBlocks(data []byte) (*Contents, error) {
	blocks := splitPEM(data)
	switch {
	case len(blocks) == 0:
		return nil, noKey(data)
	case len(blocks) > maxBlocks:
		return nil, fmt.Errorf("it has more than %d PEM blocks", maxBlocks)
	}
	c := new(Contents)
	var reasons reasons
	for i, b := range blocks {
		key, err := b.key()
		if err != nil {
			at := fmt.Sprintf("PEM block %d of %d%s", i+1, len(blocks), b.name())
			if damaged := new(damagedError); errors.As(err, &damaged) {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			if reasons.counts() {
				reasons.add(fmt.Errorf("%s: %w", at, err))
			}
			continue
		}
		switch key := key.(type) {
		case *SigningKey:
			c.Private = append(c.Private, key)
		case PublicKey:
			c.Public = append(c.Public, key)
		}
	}
	c.Skipped = reasons.all()
	return c, nil
}

// A rawBlock is a PEM block that has not been decoded: everything from its BEGIN to
// that of the next block. before is what precedes BEGIN in its line.
type rawBlock struct{ before, text []byte }

var (
	beginLine = []byte("-----BEGIN ")
	endLine   = []byte("-----END ")
)

// splitPEM returns everything that looks like a block. [pem.Decode] alone ignores
// those that it cannot decode.
func splitPEM(data []byte) (blocks []rawBlock) {
	for at := bytes.Index(data, beginLine); at >= 0 && len(blocks) <= maxBlocks; {
		line := bytes.LastIndexAny(data[:at], "\n") + 1
		next := bytes.Index(data[at+len(beginLine):], beginLine)
		b := rawBlock{before: data[line:at], text: data[at:]}
		if next >= 0 {
			next += at + len(beginLine)
			b.text = data[at:next]
		}
		blocks = append(blocks, b)
		at = next
	}
	// A file that is being written may end within a BEGIN line.
	last := data[bytes.LastIndexByte(data, '\n')+1:]
	if len(last) > 0 && len(last) < len(beginLine) && bytes.HasPrefix(beginLine, last) {
		blocks = append(blocks, rawBlock{text: last})
	}
	return blocks
}

// label returns what the BEGIN line says that the block contains.
func (b *rawBlock) label() string {
	line, _, _ := bytes.Cut(bytes.TrimPrefix(b.text, beginLine), []byte("\n"))
	label, _, whole := strings.Cut(string(line[:min(len(line), maxName)]), "-----")
	if !whole {
		return ""
	}
	return label
}

// name returns the label in parentheses, for messages.
func (b *rawBlock) name() string {
	label := b.label()
	strange := func(r rune) bool { return r != ' ' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') }
	switch {
	case label == "":
		return ""
	case strings.ContainsFunc(label, strange):
		return fmt.Sprintf(" (%q)", label)
	}
	return " (" + label + ")"
}

// key returns the *SigningKey or PublicKey in the block, or nil if it is one that
// belongs to a key.
func (b *rawBlock) key() (any, error) {
	before := strings.TrimSpace(string(b.before[:min(len(b.before), maxName)]))
	if strings.HasPrefix(before, "#") || strings.HasPrefix(before, "//") {
		return nil, errors.New("it is in a comment")
	}
	if len(b.before) > 0 {
		return nil, &damagedError{whyNotAtStart(b.before)}
	}
	label := b.label()
	if label == "EC PARAMETERS" || label == "DH PARAMETERS" {
		return nil, nil
	}
	if err := otherThanKey(label); err != nil {
		return nil, err
	}
	block, rest := pem.Decode(b.text)
	if block == nil || bytes.Contains(rest, endLine) {
		return nil, &damagedError{whyNotDecoded(b.text)}
	}
	if block.Headers["DEK-Info"] != "" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, withHint(errEncrypted, "decrypt it first: openssl pkey -in FILE")
	}
	return parseDER(block.Bytes)
}

// A hinted error has a hint: what its reader can do about it.
type hinted struct {
	error
	hint string
}

func withHint(err error, hint string) error { return &hinted{err, hint} }

// Hint returns what to do about the error.
func (e *hinted) Hint() string { return e.hint }

func (e *hinted) Unwrap() error { return e.error }
