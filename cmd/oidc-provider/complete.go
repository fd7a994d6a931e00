package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/rotation"
)

type completion = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective)

// completeRing completes the argument at position with what list returns for the
// ring. A store that does not answer at once completes nothing.
func completeRing(flags *ringFlags, position int, list func(*rotation.Ring) []cobra.Completion) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) != position {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
		defer cancel()
		cmd.SetContext(ctx)
		r, err := flags.read(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list(r), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeKeys completes kids of keys that are not revoked, with their phase.
func completeKeys(flags *ringFlags, position int) completion {
	return completeRing(flags, position, func(r *rotation.Ring) (kids []cobra.Completion) {
		at := r.At(time.Now())
		for i := range r.Keys {
			if phase := r.Keys[i].Phase(at); phase != rotation.Revoked {
				kids = append(kids, cobra.CompletionWithDesc(r.Keys[i].KeyID, string(phase)))
			}
		}
		return kids
	})
}

// completeWords completes a flag with one of these words.
func completeWords(cmd *cobra.Command, flag string, words ...string) {
	cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// completeIssuers completes --issuer with the managed issuers of the file in --config.
func (f *ringFlags) completeIssuers(_ *cobra.Command, _ []string, _ string) (urls []cobra.Completion,
	_ cobra.ShellCompDirective) {
	if f.file != "" {
		all := ringFlags{file: f.file}
		managed, _ := all.managed()
		for _, m := range managed {
			urls = append(urls, m.Issuer)
		}
	}
	return urls, cobra.ShellCompDirectiveNoFileComp
}

// completeCopies completes names of copies.
func completeCopies(flags *ringFlags, position int) completion {
	return completeRing(flags, position, func(r *rotation.Ring) (names []cobra.Completion) {
		for _, c := range r.Copies {
			names = append(names, c.Name)
		}
		return names
	})
}
