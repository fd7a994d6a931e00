package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// audience is the one that tests ask for unless they are about audiences.
const audience = "relying-party"

// shortest is the shortest life of a token that Kubernetes grants.
const shortest = 10 * time.Minute

// requestToken asks for a token of the tests' ServiceAccount.
func (c *cluster) requestToken(ctx context.Context, life time.Duration, bound *authenticationv1.BoundObjectReference, audiences ...string) (string, error) {
	seconds := int64(life / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:         audiences,
		ExpirationSeconds: &seconds,
		BoundObjectRef:    bound,
	}}
	answer, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, serviceAccount, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("TokenRequest: %w", err)
	}
	return answer.Status.Token, nil
}

// mustToken is requestToken for tests to which a refusal is the end.
func (c *cluster) mustToken(t *testing.T, audiences ...string) string {
	t.Helper()
	token, err := c.requestToken(t.Context(), shortest, nil, audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// review asks the API server whether a token is good for an audience, and
// returns nil if it is and belongs to the tests' ServiceAccount.
func (c *cluster) review(ctx context.Context, token, audience string) error {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{
		Token: token, Audiences: []string{audience},
	}}
	answer, err := c.client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("TokenReview: %w", err)
	}
	status := answer.Status
	if !status.Authenticated {
		return fmt.Errorf("%w: %s", errNotAuthenticated, status.Error)
	}
	if status.User.Username != subject {
		return fmt.Errorf("TokenReview: user %q, want %q", status.User.Username, subject)
	}
	if !slices.Equal(status.Audiences, []string{audience}) {
		return fmt.Errorf("TokenReview: audiences %q, want %q", status.Audiences, audience)
	}
	return nil
}

// errNotAuthenticated is the API server's "no", as against no answer at all.
var errNotAuthenticated = errors.New("TokenReview: not authenticated")

// awaitNo waits for the API server to reject a token that it may have accepted
// just now: it remembers a "yes" for ten seconds.
func (c *cluster) awaitNo(t *testing.T, token string) {
	t.Helper()
	eventually(t, "TokenReview says no", 20*time.Second, func() error {
		err := c.review(t.Context(), token, audience)
		if errors.Is(err, errNotAuthenticated) {
			return nil
		}
		return errors.Join(errors.New("no refusal yet"), err)
	})
}

// awaitHandOver returns the first token by another key than this one.
func (c *cluster) awaitHandOver(t *testing.T, kid string, within time.Duration) string {
	t.Helper()
	var token string
	eventually(t, "a token of another key", within, func() error {
		token = c.mustToken(t, audience)
		if mustHeader(t, token).KeyID == kid {
			return fmt.Errorf("%s signs still", kid)
		}
		return nil
	})
	return token
}

// createPod makes a Pod on a Node, although no kubelet will ever run it: the
// API server then puts both into the claims of a token bound to the Pod.
func (c *cluster) createPod(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name + "-node"}}
	if _, err := c.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	mount := false
	pod, err := c.client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName:           serviceAccount,
			AutomountServiceAccountToken: &mount,
			NodeName:                     node.Name,
			Containers:                   []corev1.Container{{Name: "main", Image: "example.test/none"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func boundTo(pod *corev1.Pod) *authenticationv1.BoundObjectReference {
	return &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
}

// A tokenHeader is what the API server lets into a token's header.
type tokenHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

func header(token string) (tokenHeader, error) {
	var h tokenHeader
	encoded, _, _ := strings.Cut(token, ".")
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return h, fmt.Errorf("token header: %w", err)
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return h, fmt.Errorf("token header: %w", err)
	}
	return h, nil
}

func mustHeader(t *testing.T, token string) tokenHeader {
	t.Helper()
	h, err := header(token)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// withSignatureOf makes a token whose signature was made by a good key, over
// another token.
func withSignatureOf(token, other string) string {
	return token[:strings.LastIndex(token, ".")] + other[strings.LastIndex(other, "."):]
}

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
