package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/internal/config"
)

var update = flag.Bool("update", false, "write the generated pages anew")

// TestGeneratedDocs compares the pages that are generated with what the program
// says of itself now. `make docs` writes them.
func TestGeneratedDocs(t *testing.T) {
	for _, g := range []struct {
		name     string
		generate func() (string, error)
	}{{"cli.md", cliPage}, {"config.md", configPage}} {
		want, err := g.generate()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(repository, "docs", g.name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("docs/%s is stale: run `make docs`, or `go test ./cmd/oidc-provider -run TestGeneratedDocs -update`",
				g.name)
		}
	}
}

// manyCommands is the number of commands from which on a flag is described once
// for all of them.
const manyCommands = 6

// cliPage describes every command, from what cobra knows.
func cliPage() (string, error) {
	var all []*cobra.Command
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		all = append(all, cmd)
		for _, sub := range cmd.Commands() {
			if !sub.Hidden {
				visit(sub)
			}
		}
	}
	top := newRootCommand()
	visit(top)
	shared := sharedFlags(all)

	var b strings.Builder
	b.WriteString("# Command line\n\n<!-- Generated from the program: `make docs` writes this page. -->\n\n")
	b.WriteString(markdown(top.Long) + "\n| command | |\n|---|---|\n")
	for _, cmd := range all[1:] {
		path := cmd.CommandPath()
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", strings.TrimPrefix(path, "oidc-provider "), slug(path), cmd.Short)
	}
	b.WriteString("\n`--help` shows the same in a terminal.\n\n## Shared flags\n\nMany commands have these flags:\n\n")
	writeFlags(&b, shared)
	for _, cmd := range all[1:] {
		writeCommand(&b, cmd, shared)
	}
	return b.String(), nil
}

// sharedFlags returns the flags that many of the commands have, with the same
// words, and that are not described with their parent.
func sharedFlags(commands []*cobra.Command) *pflag.FlagSet {
	shared := pflag.NewFlagSet("", pflag.ContinueOnError)
	counts := make(map[string]int)
	for _, cmd := range commands {
		siblings := siblingFlags(cmd.Parent())
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			key := flagKey(f)
			if f.Name == "help" || has(siblings, f) {
				return
			}
			if counts[key]++; counts[key] == manyCommands && shared.Lookup(f.Name) == nil {
				shared.AddFlag(f)
			}
		})
	}
	return shared
}

// siblingFlags returns the flags that all sub-commands of parent have, and
// parent itself has not.
func siblingFlags(parent *cobra.Command) *pflag.FlagSet {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	if parent == nil || len(parent.Commands()) < 2 {
		return flags
	}
	children := parent.Commands()
	children[0].LocalFlags().VisitAll(func(f *pflag.Flag) {
		everywhere := !slices.ContainsFunc(children, func(c *cobra.Command) bool { return !has(c.LocalFlags(), f) })
		if everywhere && f.Name != "help" && !has(parent.LocalFlags(), f) {
			flags.AddFlag(f)
		}
	})
	return flags
}

// has reports whether flags has f with the same words.
func has(flags *pflag.FlagSet, f *pflag.Flag) bool {
	other := flags.Lookup(f.Name)
	return other != nil && flagKey(other) == flagKey(f)
}

func flagKey(f *pflag.Flag) string {
	return strings.Join([]string{f.Name, f.Shorthand, f.DefValue, f.Usage}, "\x00")
}

func writeCommand(b *strings.Builder, cmd *cobra.Command, shared *pflag.FlagSet) {
	fmt.Fprintf(b, "\n## %s\n\n", cmd.CommandPath())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	b.WriteString(markdown(text))
	if cmd.Runnable() {
		fmt.Fprintf(b, "\n```\n%s\n```\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", dedent(cmd.Example))
	}
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	siblings := siblingFlags(cmd.Parent())
	var common []string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Name == "help" || f.Hidden || has(siblings, f):
		case has(shared, f):
			common = append(common, "`--"+f.Name+"`")
		default:
			own.AddFlag(f)
		}
	})
	if own.HasFlags() {
		b.WriteString("\n")
		writeFlags(b, own)
	}
	if siblings.HasFlags() {
		parent := cmd.Parent()
		fmt.Fprintf(b, "\nAnd the [flags of all `%s` commands](#%s).\n", parent.Name(), slug(parent.CommandPath()))
	}
	if len(common) > 0 {
		lines := wrap("[Shared flags](#shared-flags): "+strings.Join(common, ", ")+".", 110)
		fmt.Fprintf(b, "\n%s\n", lines)
	}
	if children := siblingFlags(cmd); children.HasFlags() {
		fmt.Fprintf(b, "\nAll `%s` commands have these flags:\n\n", cmd.Name())
		writeFlags(b, children)
	}
}

func writeFlags(b *strings.Builder, flags *pflag.FlagSet) {
	fmt.Fprintf(b, "```\n%s```\n", flags.FlagUsagesWrapped(110))
}

// markdown turns a help text into Markdown: what is indented becomes code.
func markdown(text string) string {
	var b strings.Builder
	code := false
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		indented := strings.HasPrefix(line, "  ")
		if indented != code && strings.TrimSpace(line) != "" {
			b.WriteString("```\n")
			code = indented
		}
		if !code {
			line = strings.NewReplacer("<", `\<`, "*", `\*`, "[", `\[`).Replace(line)
		}
		b.WriteString(strings.TrimPrefix(line, "  "))
	}
	if code {
		b.WriteString("```\n")
	}
	return strings.ReplaceAll(b.String(), "\n\n```\n\n", "\n```\n\n")
}

func dedent(text string) string {
	return strings.TrimRight(strings.ReplaceAll(strings.TrimPrefix(text, "  "), "\n  ", "\n"), "\n")
}

// An object of the JSON Schema of a configuration file, whose properties stay in
// order.
type schemaObject struct {
	Type        string           `json:"type"`
	Description string           `json:"description"`
	Properties  schemaProperties `json:"properties"`
	Items       *schemaObject    `json:"items"`
	Required    []string         `json:"required"`
	Pattern     string           `json:"pattern"`
}

type schemaProperty struct {
	name string
	*schemaObject
}

type schemaProperties []schemaProperty

// UnmarshalJSON implements [json.Unmarshaler].
func (p *schemaProperties) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if _, err := decoder.Token(); err != nil {
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var s schemaObject
		if err := decoder.Decode(&s); err != nil {
			return err
		}
		*p = append(*p, schemaProperty{name.(string), &s})
	}
	return nil
}

// configIntroduction has quotes in place of backquotes.
const configIntroduction = `# Configuration file

<!-- Generated from the program: 'make docs' writes this page. -->

'oidc-provider serve --config FILE' reads this file. It is YAML. Durations are like '90s', '5m' or '24h'. File names
are relative to the directory of the file. A field that does not exist is an error, and
'oidc-provider config check FILE' reports everything that is wrong at once. A file in 'issuersDir' has the fields of
an entry of ['issuers'](#issuers).
`

// configPage describes every field of a configuration file, from its schema,
// which is made from the comments of [config.Config].
func configPage() (string, error) {
	data, err := config.Schema(false)
	if err != nil {
		return "", err
	}
	var schema schemaObject
	if err := json.Unmarshal(data, &schema); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(configIntroduction, "'", "`"))
	writeSchema(&b, "", "Top level", &schema)
	b.WriteString("\n## Example\n\n`oidc-provider config example` prints this file, with every field and its default:\n")
	fmt.Fprintf(&b, "\n```yaml\n%s```\n", config.Example)
	return b.String(), nil
}

func writeSchema(b *strings.Builder, path, title string, s *schemaObject) {
	fmt.Fprintf(b, "\n## %s\n\n", title)
	previous := ""
	for _, p := range s.Properties {
		notes := []string{p.kind()}
		if slices.Contains(s.Required, p.name) {
			notes = append(notes, "required")
		}
		if p.object() != nil {
			notes = append(notes, fmt.Sprintf("see [below](#%s)", slug(path+p.name)))
		}
		text := p.Description
		switch {
		case text == previous && text != "":
			text = "see above."
		case strings.HasPrefix(text, p.name+" "):
			text = strings.TrimPrefix(text, p.name+" ")
		}
		previous = p.Description
		item := wrap(fmt.Sprintf("- **`%s`** (%s) %s", p.name, strings.Join(notes, ", "), angles(text)), 116)
		fmt.Fprintf(b, "%s\n", strings.ReplaceAll(item, "\n", "\n  "))
	}
	for _, p := range s.Properties {
		if o := p.object(); o != nil {
			writeSchema(b, path+p.name+".", path+p.name, o)
		}
	}
}

func angles(text string) string { return strings.NewReplacer("<", `\<`, "*", `\*`).Replace(text) }

// object returns the fields of s, or of its entries, nil if it has none.
func (s *schemaObject) object() *schemaObject {
	switch {
	case s.Items != nil:
		return s.Items.object()
	case s.Type == "object":
		return s
	}
	return nil
}

func (s *schemaObject) kind() string {
	switch {
	case s.Items != nil:
		return "list"
	case s.Pattern != "":
		return "duration"
	case s.Type == "string":
		return "text"
	case s.Type == "boolean":
		return "true or false"
	}
	return s.Type
}
