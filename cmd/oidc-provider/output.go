package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// outputFlag is -o of commands that print something for people or as JSON.
type outputFlag struct{ format, plain string }

func (o *outputFlag) add(cmd *cobra.Command, plain string) {
	o.plain = plain
	cmd.Flags().VarP(o, "output", "o", "output format: "+plain+" or json")
	o.format = plain
	cmd.Flags().Lookup("output").DefValue = plain
}

func (o *outputFlag) json() bool     { return o.format == "json" }
func (o *outputFlag) String() string { return o.format }
func (o *outputFlag) Type() string   { return "string" }

// Set implements [pflag.Value].
func (o *outputFlag) Set(s string) error {
	if s != o.plain && s != "json" {
		return fmt.Errorf("want %s or json", o.plain)
	}
	o.format = s
	return nil
}

func printJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
