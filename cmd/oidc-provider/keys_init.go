package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/rotation"
)

func newKeysInitCommand() *cobra.Command {
	var store storeFlag
	var policy policyFlags
	var issuer string
	cmd := &cobra.Command{
		Use:   "init --issuer URL",
		Short: "Make the first keys of an issuer in an empty store",
		Long: `Make the first keys of an issuer in an empty store: one that signs at once and
the next one. The policy flags are written beside the keys, and servers on this
store keep to them. A store that holds anything already is left as it is.`,
		Example: `  # Keys that rotate every week, for an issuer on the internet
  oidc-provider keys init --store /var/lib/oidc-provider --issuer https://oidc.example.com --schedule @weekly`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := newRing(cmd, issuer, &policy)
			if err != nil {
				return err
			}
			s, err := store.open()
			if err != nil {
				return err
			}
			if err := rotation.Create(cmd.Context(), s, nil, r); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Made a ring for %s in %s:\n", r.Issuer, store.spec)
			printKeys(cmd.OutOrStdout(), r)
			return nil
		},
	}
	store.add(cmd.Flags())
	policy.add(cmd.Flags())
	cmd.Flags().StringVar(&issuer, "issuer", "", "the issuer's URL, as it stands in the iss claim (required)")
	return cmd
}

// newRing makes a ring with generated keys.
func newRing(cmd *cobra.Command, rawIssuer string, flags *policyFlags) (*rotation.Ring, error) {
	policy, err := flags.policy(cmd.Flags())
	if err != nil {
		return nil, err
	}
	if rawIssuer == "" {
		return nil, errors.New("--issuer is required: the URL that kube-apiserver has as --service-account-issuer, like https://oidc.example.com")
	}
	issuer, err := parseIssuer(cmd, rawIssuer)
	if err != nil {
		return nil, err
	}
	for _, w := range policy.Warnings() {
		warn(cmd, "%s", w)
	}
	return rotation.New(issuer.String(), policy, time.Now(), rotation.GenerateKey)
}
