// Package hint attaches to an error what its reader can do about it. A hint is
// data: library packages attach it, and the edges of the program print or log it
// once.
//
// A hint names a setting by its path in the configuration file, in braces:
// "set {etcd.caFile}". The edge that shows the hint calls [Name] to turn it into
// what the reader typed: a flag, or the field of a file.
package hint

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Hinter is an error with a hint. Packages that import nothing of this module
// implement it themselves.
type Hinter interface {
	error
	Hint() string
}

type hinted struct {
	error
	hint string
}

func (e *hinted) Hint() string  { return e.hint }
func (e *hinted) Unwrap() error { return e.error }

// Wrap returns err with a hint, and nil for nil. The text of err stays the same.
func Wrap(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

// Errorf returns an error with a hint, formatted as by [fmt.Errorf].
func Errorf(hint, format string, args ...any) error {
	return &hinted{fmt.Errorf(format, args...), hint}
}

// Of returns the hints of err and of everything that it wraps, each once, the
// outermost first, separated by "; ". It returns "" if there are none.
func Of(err error) string {
	var hints []string
	collect(err, &hints)
	return strings.Join(hints, "; ")
}

func collect(err error, hints *[]string) {
	if h, ok := err.(Hinter); ok && h.Hint() != "" && !slices.Contains(*hints, h.Hint()) {
		*hints = append(*hints, h.Hint())
	}
	switch wrapped := err.(type) {
	case interface{ Unwrap() error }:
		collect(wrapped.Unwrap(), hints)
	case interface{ Unwrap() []error }:
		for _, err := range wrapped.Unwrap() {
			collect(err, hints)
		}
	}
}

// Text returns the message of err, followed by its hints if there are any, with
// settings named by name. Of joined errors each has a line and its own hints. It
// returns "" for nil.
func Text(err error, name func(field string) string) string {
	if err == nil {
		return ""
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var messages, texts []string
		for _, err := range joined.Unwrap() {
			messages, texts = append(messages, err.Error()), append(texts, Text(err, name))
		}
		if strings.Join(messages, "\n") == err.Error() {
			return strings.Join(texts, "\n")
		}
	}
	if hints := Of(err); hints != "" {
		return fmt.Sprintf("%v (hint: %s)", err, Name(hints, name))
	}
	return err.Error()
}

var setting = regexp.MustCompile(`\{[a-z][A-Za-z]*(\.[a-z][A-Za-z]*)*\}`)

// Name replaces every setting in a hint by what name returns for its path.
func Name(hint string, name func(field string) string) string {
	return setting.ReplaceAllStringFunc(hint, func(field string) string {
		return name(strings.Trim(field, "{}"))
	})
}

// Field names a setting for the author of a configuration file: by its path.
func Field(field string) string { return field }
