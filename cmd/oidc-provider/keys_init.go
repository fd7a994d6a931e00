package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"oidc-provider/internal/describe"
	"oidc-provider/rotation"
)

func newKeysInitCommand() *cobra.Command {
	var ring ringFlags
	var policy policyFlags
	var seal recipientFlag
	cmd := &cobra.Command{
		Use:   "init --issuer URL",
		Short: "Make the first keys of an issuer in an empty store",
		Long: `Make the first keys of an issuer in an empty store: one that signs at once and
the next one. The policy flags are written beside the keys, and servers on this
store keep to them. A store that holds anything already is left as it is.

With --recipient the private keys are sealed before they reach the store. Make an
age identity with age-keygen, name its recipient here, and give the file to the
servers as --age-identity; or name "kms", and a Kubernetes KMS v2 plugin seals
them. The recipients are stored in the ring: every key that is added later is sealed for
them as well.

A sealed ring is also signed, so that only holders of an identity can change it. This
command therefore takes the identity, too: --age-identity or --kms-socket.`,
		Example: `  # Keys that rotate every week, for an issuer on the internet
  oidc-provider keys init --store /var/lib/oidc-provider --issuer https://oidc.example.com --schedule @weekly

  # In the etcd of a kubeadm control plane, sealed
  oidc-provider keys init --store etcd://127.0.0.1:2379/oidc-provider --etcd-ca-file /etc/kubernetes/pki/etcd/ca.crt \
    --etcd-cert-file /etc/kubernetes/pki/apiserver-etcd-client.crt --etcd-key-file /etc/kubernetes/pki/apiserver-etcd-client.key \
    --issuer https://oidc.example.com --age-identity /etc/oidc-provider/identity.txt \
    --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := seal.check(); err != nil {
				return err
			}
			_, issuer, err := ring.resolve(cmd)
			if err != nil {
				return err
			}
			r, err := newRing(cmd, &ring, issuer, &policy)
			if err != nil {
				return err
			}
			r.Recipients = seal.recipients
			s, err := ring.open(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			if r, err = enroll(cmd, s, r); err != nil {
				return err
			}
			if err := s.Create(cmd.Context(), r); err != nil {
				return err
			}
			if w := s.PlainWarning(r); w != "" {
				warn(cmd, "%s", w)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Made a ring for %s in %s:\n", r.Issuer, s)
			describe.Keys(cmd.OutOrStdout(), r, time.Now())
			return nil
		},
	}
	ring.add(cmd)
	policy.add(cmd)
	seal.add(cmd.Flags(), "seal the private keys for")
	return cmd
}

// newRing makes a ring with generated keys.
func newRing(cmd *cobra.Command, ring *ringFlags, rawIssuer string, flags *policyFlags) (*rotation.Ring, error) {
	policy, err := flags.newPolicy(cmd.Flags(), ring)
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
