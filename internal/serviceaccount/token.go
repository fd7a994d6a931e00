// Package serviceaccount knows the tokens of Kubernetes ServiceAccounts: the
// claims that kube-apiserver writes, and which of them every such token has.
package serviceaccount

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"oidc-provider/rotation"
)

// Claims are those of a ServiceAccount token, in the order in which kube-apiserver
// writes them. Times are seconds since 1970 (RFC 7519, section 2).
type Claims struct {
	Audience   []string         `json:"aud"`
	Expiry     int64            `json:"exp"`
	IssuedAt   int64            `json:"iat"`
	Issuer     string           `json:"iss"`
	ID         string           `json:"jti"`
	Kubernetes KubernetesClaims `json:"kubernetes.io"`
	NotBefore  int64            `json:"nbf"`
	Subject    string           `json:"sub"`
}

// KubernetesClaims name the objects that a token belongs to. Node and Pod may be
// nil.
type KubernetesClaims struct {
	Namespace      string     `json:"namespace"`
	Node           *Reference `json:"node,omitempty"`
	Pod            *Reference `json:"pod,omitempty"`
	ServiceAccount Reference  `json:"serviceaccount"`
}

// A Reference names an object of Kubernetes.
type Reference struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// Subject returns the sub of the tokens of a ServiceAccount.
func Subject(namespace, name string) string { return "system:serviceaccount:" + namespace + ":" + name }

// Check returns an error unless claims, in JSON, are those of a ServiceAccount: sub and
// kubernetes.io name the same one. It does not look at the registered claims, some of
// which RFC 7519 allows in forms that Kubernetes does not use: aud as a string, times
// with a fraction.
func Check(claims []byte) error {
	var c struct {
		Kubernetes KubernetesClaims `json:"kubernetes.io"`
		Subject    string           `json:"sub"`
	}
	if err := json.Unmarshal(claims, &c); err != nil {
		return errors.New("not the token of a ServiceAccount: kubernetes.io or sub has another form")
	}
	k := &c.Kubernetes
	if k.Namespace == "" || k.ServiceAccount.Name == "" || c.Subject != Subject(k.Namespace, k.ServiceAccount.Name) {
		return fmt.Errorf("not the token of a ServiceAccount: sub is %.200q, and kubernetes.io names %.200q in namespace %.200q",
			c.Subject, k.ServiceAccount.Name, k.Namespace)
	}
	return nil
}

// A Request describes a token to sign. Pod and Node may be empty.
type Request struct {
	Audiences                            []string
	Namespace, ServiceAccount, Pod, Node string
	Lifetime                             time.Duration
}

func (q *Request) check(longest time.Duration) error {
	switch {
	case q.Lifetime <= 0 || q.Lifetime > longest:
		return fmt.Errorf("a token cannot be valid for %v: want more than 0 and at most %v, the longest token lifetime of "+
			"the ring", q.Lifetime, longest)
	case len(q.Audiences) == 0 || slices.Contains(q.Audiences, ""):
		return errors.New("the audience must not be empty: a token for every audience is a token for an attacker")
	case q.Namespace == "" || q.ServiceAccount == "" || strings.ContainsAny(q.Namespace+q.ServiceAccount, ":/ "):
		return fmt.Errorf("the namespace %q and the ServiceAccount %q must be names of Kubernetes objects", q.Namespace,
			q.ServiceAccount)
	case q.Node != "" && q.Pod == "":
		return errors.New("only a token of a Pod has a Node")
	}
	return nil
}

// Sign signs the token of a request that is issued now.
func (q *Request) Sign(signer rotation.Signer, now time.Time) (string, error) {
	if err := q.check(signer.MaxTokenLifetime); err != nil {
		return "", err
	}
	// UIDs follow from the names: two tokens of one ServiceAccount agree, as they
	// do in a cluster.
	reference := func(kind, name string) *Reference {
		if name == "" {
			return nil
		}
		id := uuid.NewSHA1(uuid.NameSpaceURL, []byte(signer.Issuer+"#"+kind+"/"+q.Namespace+"/"+name))
		return &Reference{name, id.String()}
	}
	payload, err := json.Marshal(Claims{
		Audience: q.Audiences,
		Expiry:   now.Add(q.Lifetime).Unix(), IssuedAt: now.Unix(), NotBefore: now.Unix(),
		Issuer: signer.Issuer,
		ID:     uuid.NewString(),
		Kubernetes: KubernetesClaims{
			Namespace:      q.Namespace,
			Node:           reference("node", q.Node),
			Pod:            reference("pod", q.Pod),
			ServiceAccount: *reference("serviceaccount", q.ServiceAccount),
		},
		Subject: Subject(q.Namespace, q.ServiceAccount),
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
