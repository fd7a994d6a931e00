package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A page is one Markdown file of the project.
type page struct {
	path   string // relative to the root of the repository
	blocks []block
	prose  string // the text without its blocks
}

// A block is code in a page.
type block struct {
	at   string // the page and the line, for messages
	info string // the words after the fence
	text string
	// run says that a comment before the block wants it executed.
	run bool
}

const repository = "../.."

// pages reads README.md and all other pages.
func pages(t *testing.T) []page {
	t.Helper()
	var paths []string
	for _, pattern := range []string{"*.md", "docs/*.md", ".github/*.md", ".github/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	if len(paths) < 15 {
		t.Fatalf("%d pages: %v", len(paths), paths)
	}
	var pages []page
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(repository, path)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, parsePage(rel, string(text)))
	}
	return pages
}

// runMark is the comment before a block that a test executes.
const runMark = "<!-- tested: run -->"

func parsePage(path, text string) page {
	p := page{path: path}
	var prose strings.Builder
	var open *block
	marked := false
	for i, line := range strings.Split(text, "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{at: fmt.Sprintf("%s:%d", path, i+1), info: info, run: marked}
		case fence:
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		default:
			prose.WriteString(line + "\n")
		}
		marked = line == runMark
	}
	p.prose = prose.String()
	return p
}

// blocks returns the blocks of all pages in a language.
func blocks(t *testing.T, language string) (found []block) {
	t.Helper()
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.info == language {
				found = append(found, b)
			}
		}
	}
	return found
}

var (
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ (.*)$`)
	inlineCode = regexp.MustCompile("`[^`\n]+`")
)

// TestDocsLinks follows every link from one page to another file, and to a
// heading in it.
func TestDocsLinks(t *testing.T) {
	anchors := make(map[string][]string)
	for _, p := range pages(t) {
		for _, m := range heading.FindAllStringSubmatch(p.prose, -1) {
			anchors[p.path] = append(anchors[p.path], slug(m[1]))
		}
	}
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(inlineCode.ReplaceAllString(p.prose, "code"), -1) {
			target := m[1]
			if strings.Contains(target, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(target, "#")
			path := p.path
			if file != "" {
				path = filepath.Join(filepath.Dir(p.path), file)
			}
			if _, err := os.Stat(filepath.Join(repository, path)); err != nil {
				t.Errorf("%s: link to %s: %v", p.path, target, err)
			}
			if anchor != "" && !slices.Contains(anchors[path], anchor) {
				t.Errorf("%s: link to %s: %s has no such heading", p.path, target, path)
			}
		}
	}
}

// TestDocsHouse compares the map in docs/design.md with the packages below
// internal.
func TestDocsHouse(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs/design.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, house, _ := strings.Cut(string(text), "\ninternal/\n")
	house, _, _ = strings.Cut(house, "```")
	entries, err := os.ReadDir(filepath.Join(repository, "internal"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if !regexp.MustCompile(`(?m)^  ([a-z]+, )*` + e.Name() + `\b`).MatchString(house) {
			t.Errorf("docs/design.md does not have internal/%s", e.Name())
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+)`).FindAllStringSubmatch(house, -1) {
		if !slices.Contains(names, m[1]) {
			t.Errorf("docs/design.md has internal/%s, which does not exist", m[1])
		}
	}
}

// slug returns the anchor that GitHub gives a heading.
func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, heading)
}

// TestDocsCommands checks that every command line of ours in the pages names a
// command, flags and arguments that exist. It runs none of them.
func TestDocsCommands(t *testing.T) {
	var n int
	for _, b := range blocks(t, "sh") {
		commands, err := shellCommands(b.text)
		if err != nil {
			t.Errorf("%s: %v", b.at, err)
		}
		for _, words := range commands {
			args, ours := ourCommand(words)
			if !ours {
				continue
			}
			n++
			if err := checkCommandLine(args); err != nil {
				t.Errorf("%s: oidc-provider %s: %v", b.at, strings.Join(args, " "), err)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d commands found", n)
	}
}

// ourCommand returns the arguments if words run this program.
func ourCommand(words []string) (args []string, ours bool) {
	for i, word := range words {
		first := i == 0 || words[i-1] == "--" || i == 2 && words[0] == "go" && words[1] == "run"
		if first && filepath.Base(word) == "oidc-provider" {
			return words[i+1:], true
		}
	}
	return nil, false
}

// checkCommandLine does what cobra does before it runs a command.
func checkCommandLine(args []string) error {
	root := newRootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(kidsLast(args))
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if !cmd.Runnable() {
		return fmt.Errorf("%s does nothing by itself", cmd.CommandPath())
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	return cmd.ValidateFlagGroups()
}

var (
	inlineCommand = regexp.MustCompile(
		"`(oidc-provider |keys |config |trust |serve |check |verify |export |token )?([^`\n]*)`")
	inlineFlag = regexp.MustCompile(`--[a-z][a-z0-9-]*[a-z0-9]`)
	plainWord  = regexp.MustCompile(`^[a-z-]+$`)
)

// foreignFlags are flags of other programs that the prose names.
var foreignFlags = []string{
	"--service-account-signing-key-file", "--service-account-key-file", "--service-account-signing-endpoint",
	"--service-account-issuer", "--service-account-jwks-uri", "--service-account-max-token-expiration",
	"--service-account-extend-token-expiration", "--authentication-config", "--root-ca-file", "--etcd",
}

// TestDocsNames checks the commands and flags that the prose names.
func TestDocsNames(t *testing.T) {
	flags := make(map[string]bool)
	top := newRootCommand()
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.InitDefaultVersionFlag()
		cmd.Flags().VisitAll(func(f *pflag.Flag) { flags["--"+f.Name] = true })
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(top)
	for _, p := range pages(t) {
		for _, m := range inlineCommand.FindAllStringSubmatch(p.prose, -1) {
			words := strings.Fields(strings.TrimPrefix(m[1], "oidc-provider ") + m[2])
			if m[1] != "" {
				if err := checkNames(top, words); err != nil {
					t.Errorf("%s: %s: %v", p.path, m[0], err)
				}
			}
			if other := m[1] == "" && len(words) > 1 && !strings.HasPrefix(words[0], "-"); other {
				continue // a command of another program
			}
			for _, flag := range inlineFlag.FindAllString(m[2], -1) {
				if !flags[flag] && !slices.Contains(foreignFlags, flag) {
					t.Errorf("%s: %s: no command has the flag %s", p.path, m[0], flag)
				}
			}
		}
	}
}

// checkNames checks the words that can only be names of commands.
func checkNames(cmd *cobra.Command, words []string) error {
	for _, word := range words {
		if !plainWord.MatchString(word) || strings.HasPrefix(word, "-") || !cmd.HasSubCommands() {
			return nil
		}
		i := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == word || c.HasAlias(word) })
		if i < 0 {
			return fmt.Errorf("%s has no command %q", cmd.CommandPath(), word)
		}
		cmd = cmd.Commands()[i]
	}
	return nil
}
