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
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
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
		fmt.Fprintf(stderr, "Error: %v\n", exit.err)
	}
	return exit.code
}

// An exitError ends the program with an exit status of its own. Without err
// everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return fmt.Sprintf("exit status %d: %v", e.code, e.err) }
func (e exitError) Unwrap() error { return e.err }
