// Command oidc-provider publishes the OpenID Connect documents of a Kubernetes
// ServiceAccount issuer, rotates its signing keys, and signs tokens for
// kube-apiserver.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"

	"oidc-provider/internal/hint"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	stderr = redactor{stderr}
	root.SetArgs(kidsLast(args))
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var exit exitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		exit = exitError{1, err}
	}
	if exit.err != nil {
		fmt.Fprintf(stderr, "Error: %s\n", hint.Text(exit.err, flagName))
	}
	return exit.code
}

// dashedKID is a key ID, as Kubernetes makes them, that looks like a flag.
var dashedKID = regexp.MustCompile(`^-[A-Za-z0-9_-]{42}$`)

// kidsLast puts key IDs that begin with a dash, as one in 64 does, where the
// commands that take one do not look for flags any more.
func kidsLast(args []string) []string {
	takesKIDs := len(args) > 2 && args[0] == "keys" && (args[1] == "revoke" || args[1] == "copies" && args[2] == "confirm")
	if !takesKIDs || slices.Contains(args, "--") {
		return args
	}
	var others, kids []string
	for _, arg := range args {
		if dashedKID.MatchString(arg) {
			kids = append(kids, arg)
		} else {
			others = append(others, arg)
		}
	}
	if kids == nil {
		return args
	}
	return slices.Concat(others, []string{"--"}, kids)
}

// An exitError ends the program with an exit status of its own. Without err
// everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return fmt.Sprintf("exit status %d: %v", e.code, e.err) }
func (e exitError) Unwrap() error { return e.err }
