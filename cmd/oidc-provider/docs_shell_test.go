package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// shellCommands takes a script apart into its simple commands, as far as the
// pages need it: quotes, comments, continued lines, pipes, redirections and
// command substitution. It expands nothing.
func shellCommands(text string) ([][]string, error) {
	s := shell{text: text}
	for s.i < len(s.text) {
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	s.endCommand()
	return s.commands, nil
}

type shell struct {
	text string
	i    int

	commands [][]string
	words    []string
	word     strings.Builder
	inWord   bool
	redirect bool // the next word is the file of a redirection
}

func (s *shell) endWord() {
	if s.inWord && !s.redirect {
		s.words = append(s.words, s.word.String())
	}
	if s.inWord {
		s.redirect = false
	}
	s.word.Reset()
	s.inWord = false
}

func (s *shell) endCommand() {
	s.endWord()
	if len(s.words) > 0 {
		s.commands = append(s.commands, s.words)
	}
	s.words, s.redirect = nil, false
}

// until adds the text up to end to the word, and returns it.
func (s *shell) until(end string) (string, error) {
	n := strings.Index(s.text[s.i:], end)
	if n < 0 {
		return "", errors.New("no " + end + " at the end of a quotation")
	}
	text := s.text[s.i : s.i+n]
	s.word.WriteString(text)
	s.inWord = true
	s.i += n + len(end)
	return text, nil
}

func (s *shell) step() (err error) {
	rest := s.text[s.i:]
	c := rest[0]
	s.i++
	switch {
	case strings.HasPrefix(rest, "\\\n"):
		s.i++
	case strings.HasPrefix(rest, "$("):
		s.i++
		inner, err := s.until(")")
		if err != nil {
			return err
		}
		commands, err := shellCommands(inner)
		s.commands = append(s.commands, commands...)
		return err
	case c == '\\' && len(rest) > 1:
		s.word.WriteByte(rest[1])
		s.inWord = true
		s.i++
	case c == '\'' || c == '"':
		_, err = s.until(string(c))
	case c == '#' && !s.inWord:
		for s.i < len(s.text) && s.text[s.i] != '\n' {
			s.i++
		}
	case c == ' ' || c == '\t':
		s.endWord()
	case c == '>' || c == '<':
		if fd := s.word.String(); fd == "1" || fd == "2" {
			s.word.Reset()
			s.inWord = false
		}
		s.endWord()
		s.redirect = true
	case strings.IndexByte("\n;|&()", c) >= 0:
		s.endCommand()
	default:
		s.word.WriteByte(c)
		s.inWord = true
	}
	return err
}

func TestShellCommands(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   [][]string
	}{
		{"a b | c 'd e' > f && g", [][]string{{"a", "b"}, {"c", "d e"}, {"g"}}},
		{"a \\\n  --b=\"c d\" # e\nf >>g 2>/dev/null h", [][]string{{"a", "--b=c d"}, {"f", "h"}}},
		{"a $(b c) d; e", [][]string{{"b", "c"}, {"a", "b c", "d"}, {"e"}}},
		{"a - < b", [][]string{{"a", "-"}}},
	} {
		got, err := shellCommands(tt.script)
		if err != nil || !slices.EqualFunc(got, tt.want, slices.Equal) {
			t.Errorf("%q: got %q, %v; want %q", tt.script, got, err, tt.want)
		}
	}
	if _, err := shellCommands("a 'b"); err == nil {
		t.Error("an open quotation is accepted")
	}
}
