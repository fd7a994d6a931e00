package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Codes of the colours of a terminal (ECMA-48, section 8.3.117).
const (
	red    = 31
	green  = 32
	yellow = 33
)

// colours returns the palette for w. Only a terminal gets colours, and only
// unless the environment declines them (https://no-color.org).
func colours(w io.Writer) palette {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !isTerminal(w) {
		return nil
	}
	return palette{
		"pass": green, "warn": yellow, "fail": red,
		"accepts": green, "depends": yellow, "refuses": red,
	}
}

// isTerminal reports whether a stream of the program is a terminal.
func isTerminal(stream any) bool {
	if r, ok := stream.(redactor); ok {
		stream = r.Writer
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A palette colours words for a terminal. The zero value leaves them plain.
type palette map[string]int

// paint pads a word to a width, and colours it.
func (p palette) paint(word string, width int) string {
	padding := strings.Repeat(" ", max(0, width-len(word)))
	if code, ok := p[word]; ok {
		word = fmt.Sprintf("\x1b[%dm%s\x1b[0m", code, word)
	}
	return word + padding
}
