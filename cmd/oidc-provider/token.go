package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

func newTokenCommand() *cobra.Command {
	var ring ringFlags
	var t tokenRequest
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
			if len(t.audiences) == 0 {
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
				t.duration = min(t.duration, signer.MaxTokenLifetime)
			}
			token, err := t.sign(signer, now)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	ring.add(cmd)
	cmd.Flags().StringArrayVar(&t.audiences, "audience", nil,
		"whom the token is for; may be given several times (required)")
	cmd.Flags().StringVarP(&t.namespace, "namespace", "n", "default", "namespace of the ServiceAccount")
	cmd.Flags().StringVar(&t.serviceAccount, "service-account", "default", "name of the ServiceAccount")
	cmd.Flags().DurationVar(&t.duration, "duration", time.Hour, "how long the token is valid")
	cmd.Flags().StringVar(&t.pod, "pod", "", "bind the token to a Pod of this name")
	cmd.Flags().StringVar(&t.node, "node", "",
		"the Node that the Pod runs on, which kube-apiserver writes into Pods' tokens")
	return cmd
}

type tokenRequest struct {
	audiences                            []string
	namespace, serviceAccount, pod, node string
	duration                             time.Duration
}

// claims are those of a ServiceAccount token, in the order that kube-apiserver
// writes them.
type claims struct {
	Audience   []string         `json:"aud"`
	Expiry     int64            `json:"exp"`
	IssuedAt   int64            `json:"iat"`
	Issuer     string           `json:"iss"`
	ID         string           `json:"jti"`
	Kubernetes kubernetesClaims `json:"kubernetes.io"`
	NotBefore  int64            `json:"nbf"`
	Subject    string           `json:"sub"`
}

type kubernetesClaims struct {
	Namespace      string     `json:"namespace"`
	Node           *reference `json:"node,omitempty"`
	Pod            *reference `json:"pod,omitempty"`
	ServiceAccount reference  `json:"serviceaccount"`
}

type reference struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// subjectPrefix begins the sub of every ServiceAccount token.
const subjectPrefix = "system:serviceaccount:"

func (t tokenRequest) sign(signer rotation.Signer, now time.Time) (string, error) {
	switch {
	case t.duration <= 0 || t.duration > signer.MaxTokenLifetime:
		return "", fmt.Errorf("--duration %v: want more than 0 and at most %v, the ring's max-token-lifetime", t.duration,
			signer.MaxTokenLifetime)
	case slices.Contains(t.audiences, ""):
		return "", errors.New("--audience must not be empty: a token for every audience is a token for an attacker")
	case t.namespace == "" || t.serviceAccount == "" || strings.ContainsAny(t.namespace+t.serviceAccount, ":/ "):
		return "", fmt.Errorf("--namespace %q and --service-account %q must be names of Kubernetes objects", t.namespace,
			t.serviceAccount)
	case t.node != "" && t.pod == "":
		return "", errors.New("--node goes with --pod")
	}
	// uids follow from the names: two tokens of one account agree, as they
	// do in a cluster.
	uid := func(kind, name string) *reference {
		if name == "" {
			return nil
		}
		id := uuid.NewSHA1(uuid.NameSpaceURL, []byte(signer.Issuer+"#"+kind+"/"+t.namespace+"/"+name))
		return &reference{name, id.String()}
	}
	payload, err := json.Marshal(claims{
		Audience: t.audiences,
		Expiry:   now.Add(t.duration).Unix(), IssuedAt: now.Unix(), NotBefore: now.Unix(),
		Issuer: signer.Issuer,
		ID:     uuid.NewString(),
		Kubernetes: kubernetesClaims{
			Namespace:      t.namespace,
			Node:           uid("node", t.node),
			Pod:            uid("pod", t.pod),
			ServiceAccount: *uid("serviceaccount", t.serviceAccount),
		},
		Subject: subjectPrefix + t.namespace + ":" + t.serviceAccount,
	})
	if err != nil {
		return "", err
	}
	encoded := base64.RawURLEncoding.EncodeToString(payload)
	header, signature, err := signer.Key.Sign(encoded)
	if err != nil {
		return "", err
	}
	return header + "." + encoded + "." + signature, nil
}
