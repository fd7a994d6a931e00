package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/serviceaccount"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

func newTokenCommand() *cobra.Command {
	var ring ringFlags
	var flush bool
	var t serviceaccount.Request
	cmd := &cobra.Command{
		Use:   "token --audience AUDIENCE",
		Short: "Sign a token as kube-apiserver would, for trying things out",
		Long: `Sign a token of the shape that kube-apiserver makes, with the active key of the
store. Nothing checks that the ServiceAccount exists, and its uid is made up: use
this to try a relying party out, and kube-apiserver for everything else.

With --flush the token is signed with a key that was made for it, is published nowhere
and is forgotten at once, so that no relying party accepts it. Its kid is unknown,
which makes most relying parties fetch the key set: present it to them after 'keys
revoke', and they drop the revoked key at once. That needs no private key.`,
		Example: `  oidc-provider token --audience demo
  oidc-provider token --audience sts.amazonaws.com -n backup --service-account uploader --pod uploader-0 --duration 10m

  # After a revocation: make Vault fetch the keys again
  vault write auth/jwt/login role=demo jwt="$(oidc-provider token --flush --audience vault)"`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(t.Audiences) == 0 {
				return hint.Errorf("name the relying party, like --audience sts.amazonaws.com",
					"--audience is required: a token for every audience is a token for an attacker")
			}
			now := time.Now()
			signer, err := tokenSigner(cmd, &ring, flush, now)
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
	cmd.Flags().BoolVar(&flush, "flush", false,
		"make a token that no relying party accepts, so that they fetch the keys again")
	cmd.Flags().StringArrayVar(&t.Audiences, "audience", nil,
		"`AUDIENCE` that the token is for; may be given several times (required)")
	cmd.Flags().StringVarP(&t.Namespace, "namespace", "n", "default", "`NAMESPACE` of the ServiceAccount")
	cmd.Flags().StringVar(&t.ServiceAccount, "service-account", "default", "`NAME` of the ServiceAccount")
	cmd.Flags().DurationVar(&t.Lifetime, "duration", time.Hour, "`DURATION` for which the token is valid")
	cmd.Flags().StringVar(&t.Pod, "pod", "", "bind the token to a Pod of this `NAME`")
	cmd.Flags().StringVar(&t.Node, "node", "",
		"`NAME` of the Node that the Pod runs on, which kube-apiserver writes into Pods' tokens")
	return cmd
}

// tokenSigner returns what signs the token: the active key of the ring, or one for a flush
// token, of the same algorithm.
func tokenSigner(cmd *cobra.Command, ring *ringFlags, flush bool, now time.Time) (signer rotation.Signer, err error) {
	if flush {
		r, err := ring.read(cmd)
		if err != nil {
			return signer, err
		}
		key, err := jwks.Generate(r.Active(r.At(now)).Algorithm, r.Policy.RSABits)
		return rotation.Signer{Key: key, Issuer: r.Issuer, MaxTokenLifetime: time.Duration(r.Policy.MaxTokenLifetime)}, err
	}
	s, err := ring.open(cmd)
	if err != nil {
		return signer, err
	}
	defer s.Close()
	r, err := s.ReadTrusted(cmd.Context())
	if err != nil {
		return signer, err
	}
	// Should the active key not open, that is the error of Signer.
	r, _ = r.Unseal(cmd.Context(), s.Sealer)
	return rotation.NewView(r).Signer(now)
}
