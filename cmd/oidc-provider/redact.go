package main

import (
	"io"
	"regexp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/seal"
)

// A redactor replaces private keys in what is written to it by what they are. It is
// for errors and the log, which may quote what was typed in the wrong place.
type redactor struct{ io.Writer }

var privateKey = regexp.MustCompile(`(?i)AGE-(?:SECRET-KEY|PLUGIN)-[A-Z0-9-]*` +
	`|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`)

// Write implements [io.Writer].
func (r redactor) Write(data []byte) (int, error) {
	if _, err := r.Writer.Write(privateKey.ReplaceAllLiteral(data, []byte("[private key]"))); err != nil {
		return 0, err
	}
	return len(data), nil
}

// refuseSecrets refuses private keys on the command line and in the environment,
// where a file name belongs.
func refuseSecrets(flags *pflag.FlagSet, args []string) (err error) {
	const advice = "put the key into a file of mode 0600, and give its name; others may have seen this key: " +
		"create a new one"
	for _, arg := range args {
		if seal.IsSecret(arg) {
			return hint.Errorf(advice, "an argument is a private key, not a name")
		}
	}
	flags.Visit(func(f *pflag.Flag) {
		if err == nil && seal.IsSecret(f.Value.String()) && f.Name != "recipient" { // which says more
			err = hint.Errorf(advice, "--%s is a private key, not a name", f.Name)
		}
	})
	return err
}

// prepare runs before every command.
func prepare(cmd *cobra.Command, args []string) error {
	warnOfUnknownVariables(cmd)
	if err := setFromEnvironment(cmd.Flags()); err != nil {
		return err
	}
	return refuseSecrets(cmd.Flags(), args)
}
