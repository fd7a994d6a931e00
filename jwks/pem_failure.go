package jwks

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// This file finds out why a file has no keys that can be read.

// A NoKeyError is the reason why something does not look like a file of keys at all.
type NoKeyError struct{ error }

// Unwrap returns the reason, which may have a hint.
func (e *NoKeyError) Unwrap() error { return e.error }

// A damagedError is a key that was readable once: without it, the keys of a file are
// not complete.
type damagedError struct{ error }

func (e *damagedError) Unwrap() error { return e.error }

var (
	bom = []byte("\xef\xbb\xbf")

	errUTF16     = withHint(errors.New("it is UTF-16"), "save it as UTF-8, or: iconv -f UTF-16 -t UTF-8 FILE")
	errHTML      = withHint(errors.New("it is HTML or XML"), "is it the page of a login or of an error?")
	errEncrypted = errors.New("the key is encrypted")
)

// isUTF16 reports whether a byte order mark says so, or every other byte is 0.
func isUTF16(data []byte) bool {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return true
	}
	zeros := func(i int) bool { return data[i] == 0 && data[i+2] == 0 && data[i^1] != 0 }
	return len(data) > 3 && (zeros(0) || zeros(1))
}

// sshKey is how a public key in one of the forms of SSH begins.
var sshKey = regexp.MustCompile(`^(ssh-|ecdsa-sha2-|sk-|---- BEGIN SSH2)`)

// noKey returns why data has no PEM block.
func noKey(data []byte) error {
	start := bytes.TrimLeft(bytes.TrimPrefix(data, bom), " \t\r\n")
	why := errors.New("no key found: want PEM with a private key, a public key or a certificate, or a key set in JSON")
	is := func(text, hint string) error { return withHint(errors.New("no key found: "+text), hint) }
	const toPEM = "convert it to PEM: openssl pkey -inform DER -in FILE, with -pubin for a public key, " +
		"or openssl x509 -inform DER -in FILE"
	switch {
	case len(start) == 0:
		why = errors.New("no key found: it is empty")
	case isUTF16(start):
		why = fmt.Errorf("no key found: %w", errUTF16)
	case start[0] == '<':
		why = fmt.Errorf("no key found: %w", errHTML)
	case isDER(data):
		why = is("it is DER, without PEM around it", toPEM)
	case sshKey.Match(start):
		why = is("it is a public key of SSH", "convert it: ssh-keygen -e -m PKCS8 -f FILE")
	case bytes.HasPrefix(start, []byte("PuTTY-User-Key-File")):
		why = is("it is a key of PuTTY", "export it as an OpenSSH key, and then: ssh-keygen -p -m PKCS8 -f FILE")
	case start[0] == '[' || start[0] == '"':
		why = is("it is JSON, but not an object", `a key set is {"keys": [ ]}`)
	case bytes.Contains(data, []byte("BEGIN ")):
		why = is("it has BEGIN, but not the five hyphens and the space of PEM around it",
			"was it copied from a document that changes hyphens?")
	case len(start) > 64 && len(bytes.TrimRight(start, base64Characters)) == 0:
		why = is("it is base64, without the BEGIN and END lines of PEM", "add them, or if it is PEM inside: base64 -d FILE")
	case bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data):
		why = is("it is binary", toPEM)
	}
	return &NoKeyError{why}
}

const base64Characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_ \t\r\n"

// whyNotAtStart returns what is wrong with a block that does not begin its line.
func whyNotAtStart(before []byte) error {
	switch {
	case bytes.Equal(before, bom):
		return withHint(errors.New("a byte order mark (BOM) is before it"), "save the file as UTF-8 without one")
	case len(bytes.TrimSpace(before)) == 0:
		return withHint(errors.New("it is indented"), "remove the white space: sed 's/^[[:space:]]*//' FILE")
	case bytes.HasSuffix(before, []byte("\r")):
		return errLineEnds
	case bytes.HasSuffix(before, []byte("-----")):
		return withHint(errors.New("it begins in the last line of the previous block"), "put it on a line of its own")
	}
	return withHint(errors.New("other text is before it in its line"), "put it on a line of its own")
}

var errLineEnds = withHint(errors.New("its lines end with CR alone"), "convert the line ends: tr '\\r' '\\n' < FILE")

// whyNotDecoded returns why a block that begins its line cannot be decoded.
func whyNotDecoded(text []byte) error {
	end := bytes.Index(text, endLine)
	is := func(text, hint string) error { return withHint(errors.New(text), hint) }
	switch {
	case bytes.Contains(text, []byte(`\n`)):
		return is(`its line ends are written as \n`, `turn them into line ends: printf '%b' "$(cat FILE)"`)
	case end < 0:
		return is("it has no END line", "if the file is being written, this passes; write another file and rename it")
	case bytes.Count(text, endLine) > 1:
		return is("a second END line follows, whose block does not begin", "was its BEGIN line lost?")
	case bytes.IndexByte(text[:end], '\n') < 0 && bytes.IndexByte(text[:end], '\r') >= 0:
		return errLineEnds
	case bytes.IndexByte(text[:end], '\n') < 0:
		return is("its line ends are missing", "put BEGIN, the base64 and END on lines of their own")
	case text[end-1] == ' ' || text[end-1] == '\t':
		return is("its END line is indented", "remove the white space: sed 's/^[[:space:]]*//' FILE")
	case text[end-1] != '\n':
		return is("other text is before END in its line", "put END on a line of its own")
	}
	label, _, _ := strings.Cut(string(text[end+len(endLine):]), "-----")
	if begin, _, _ := strings.Cut(string(text[len(beginLine):]), "-----"); begin != label {
		return errors.New("its BEGIN and END lines differ")
	}
	return is("its base64 is damaged", "copy the file again")
}

// otherThanKey returns why a block with this label has no key that can be used, and
// nil if it may have one.
func otherThanKey(label string) error {
	switch {
	case label == "ENCRYPTED PRIVATE KEY":
		return withHint(errEncrypted, "decrypt it first: openssl pkcs8 -in FILE")
	case label == "OPENSSH PRIVATE KEY":
		return withHint(errors.New("it is in the format of OpenSSH"), "convert a copy of it: ssh-keygen -p -m PKCS8 -f COPY")
	case strings.HasPrefix(label, "PGP "):
		return errors.New("it belongs to PGP")
	case strings.Contains(label, "REQUEST"):
		return withHint(errors.New("it is a request for a certificate"), "use the certificate or the public key")
	case strings.Contains(label, "CRL"), label == "PKCS7", label == "CMS", strings.HasPrefix(label, "SSH2 "):
		return errors.New("it has no key in a form that can be read")
	case label != "" && !strings.Contains(label, "KEY") && !strings.Contains(label, "CERTIFICATE"):
		return errors.New("it has no key")
	}
	return nil
}
