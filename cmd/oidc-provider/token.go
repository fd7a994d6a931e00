package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/serviceaccount"
	"oidc-provider/rotation"
)

func newTokenCommand() *cobra.Command {
	var ring ringFlags
	var t serviceaccount.Request
	cmd := &cobra.Command{
		Use:   "token --audience AUDIENCE",
		Short: "Sign a token as kube-apiserver would, for trying things out",
		Long: `Sign a token of the shape that kube-apiserver makes, with the active key of the
store. Nothing checks that the ServiceAccount exists, and its uid is made up: use
this to try a relying party out, and kube-apiserver for everything else.`,
		Example: `  oidc-provider token --audience demo
  oidc-provider token --audience sts.amazonaws.com -n backup --service-account uploader --pod uploader-0 --duration 10m`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(t.Audiences) == 0 {
				return hint.Errorf("name the relying party, like --audience sts.amazonaws.com",
					"--audience is required: a token for every audience is a token for an attacker")
			}
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			r, err := s.Read(cmd.Context())
			if err != nil {
				return err
			}
			// Should the active key not open, that is the error of Signer.
			r, _ = r.Unseal(cmd.Context(), s.Sealer)
			now := time.Now()
			signer, err := rotation.NewView(r).Signer(now)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("duration") {
				t.Lifetime = min(t.Lifetime, signer.MaxTokenLifetime)
			}
			token, err := t.Sign(signer, now)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	ring.add(cmd)
	cmd.Flags().StringArrayVar(&t.Audiences, "audience", nil,
		"whom the token is for; may be given several times (required)")
	cmd.Flags().StringVarP(&t.Namespace, "namespace", "n", "default", "namespace of the ServiceAccount")
	cmd.Flags().StringVar(&t.ServiceAccount, "service-account", "default", "name of the ServiceAccount")
	cmd.Flags().DurationVar(&t.Lifetime, "duration", time.Hour, "how long the token is valid")
	cmd.Flags().StringVar(&t.Pod, "pod", "", "bind the token to a Pod of this name")
	cmd.Flags().StringVar(&t.Node, "node", "",
		"the Node that the Pod runs on, which kube-apiserver writes into Pods' tokens")
	return cmd
}
