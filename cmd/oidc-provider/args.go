package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/internal/hint"
)

// exactArgs accepts one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs { return minimumArgs(len(names), names...) }

// minimumArgs accepts one argument for each name, and requires the first n.
func minimumArgs(n int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			return hint.Errorf(usage(cmd), "missing argument %s", names[len(args)])
		case len(args) <= len(names):
			return nil
		case cmd.HasSubCommands():
			return unknownCommand(cmd, args[len(names)])
		}
		return hint.Errorf(usage(cmd), "unexpected argument %q", args[len(names)])
	}
}

func usage(cmd *cobra.Command) string {
	return fmt.Sprintf("the usage is `%s %s`", cmd.Parent().CommandPath(), cmd.Use)
}

// showHelp runs a command that only has sub-commands.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func unknownCommand(parent *cobra.Command, name string) error {
	var names []string
	for _, sub := range parent.Commands() {
		if slices.Contains(sub.SuggestFor, name) {
			return hint.Errorf(fmt.Sprintf("use `%s`", sub.CommandPath()), "unknown command %q for %q", name,
				parent.CommandPath())
		}
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	advice := "there are " + strings.Join(names, ", ")
	if best := hint.Nearest(name, names); best != "" {
		advice = fmt.Sprintf("did you mean `%s %s`?", parent.CommandPath(), best)
	}
	return hint.Errorf(advice, "unknown command %q for %q", name, parent.CommandPath())
}

// flagError adds a hint to an error about the flags of cmd.
func flagError(cmd *cobra.Command, err error) error {
	advice := fmt.Sprintf("see `%s --help`", cmd.CommandPath())
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		if letters := unknown.GetSpecifiedShortnames(); len(letters) > 1 {
			name = letters // -issuer for --issuer
		}
		if best := hint.Nearest(name, flagsOf(cmd)); best != "" {
			advice = fmt.Sprintf("did you mean --%s?", best)
		}
	}
	return hint.Wrap(err, advice)
}

func flagsOf(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}
