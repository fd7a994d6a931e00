package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// outputFlag is -o of commands that print for people, or an object for programs.
// JSON tags give the names of its fields in YAML, too. The object has named lists
// and is never a bare list, so that it can get more fields later.
type outputFlag struct {
	format string
	plain  string   // the format for people: table or text
	more   []string // formats that the command writes itself
}

func (o *outputFlag) add(cmd *cobra.Command, plain string, more ...string) {
	o.format, o.plain, o.more = plain, plain, more
	cmd.Flags().VarP(o, "output", "o", "output `FORMAT`: "+strings.Join(o.formats(), ", "))
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(o.formats(), cobra.ShellCompDirectiveNoFileComp))
}

func (o *outputFlag) formats() []string {
	return slices.Concat([]string{o.plain, "json", "yaml"}, o.more)
}

// structured reports whether the output is an object for programs, and goes to write.
func (o *outputFlag) structured() bool { return o.format == "json" || o.format == "yaml" }

func (o *outputFlag) String() string { return o.format }
func (o *outputFlag) Type() string   { return "string" }

// Set implements [pflag.Value].
func (o *outputFlag) Set(s string) error {
	if !slices.Contains(o.formats(), s) {
		return fmt.Errorf("want one of %s", strings.Join(o.formats(), ", "))
	}
	o.format = s
	return nil
}

// write writes the object v as JSON or YAML.
func (o *outputFlag) write(w io.Writer, v any) error {
	if o.format == "yaml" {
		return writeYAML(w, v)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeNext writes v as one of several objects: a line of JSON, or a YAML
// document after a separator.
func (o *outputFlag) writeNext(w io.Writer, v any) error {
	if o.format == "yaml" {
		if _, err := fmt.Fprintln(w, "---"); err != nil {
			return err
		}
		return writeYAML(w, v)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func writeYAML(w io.Writer, v any) error {
	data, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// writeTable writes a table for people. Empty cells at the end of a row leave no
// spaces behind.
func writeTable(w io.Writer, header []string, rows [][]string) error {
	var b bytes.Buffer
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, row := range slices.Concat([][]string{header}, rows) {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range bytes.Lines(b.Bytes()) {
		if _, err := fmt.Fprintf(w, "%s\n", bytes.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// wrap breaks a text into lines of at most n bytes.
func wrap(text string, n int) string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > n {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, line), "\n")
}
