package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestBoundToPod shows what OIDC verification does not see: the API server says
// no to a token as soon as its Pod is gone, a relying party only after exp.
func TestBoundToPod(t *testing.T) {
	lab := newLab(t)
	p := lab.newProvider(calm)
	p.init()
	p.start()
	c := lab.newCluster()
	c.start(p.issuer, p.signerFlags()...)
	d := discover(t, p.issuer, lab.ca.client())

	pod := c.createPod(t, "bound")
	token, err := c.requestToken(t.Context(), shortest, boundTo(pod), audience)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.review(t.Context(), token, audience); err != nil {
		t.Fatalf("while the Pod lives: %v", err)
	}
	checkBinding(t, d, token, pod)

	now := int64(0)
	err = c.client.CoreV1().Pods(namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if err != nil {
		t.Fatal(err)
	}
	c.awaitNo(t, token)

	checkBinding(t, d, token, pod)
	if _, err := p.verify(t.Context(), token, audience); err != nil {
		t.Errorf("after the Pod was deleted: %v", err)
	}
	checkExpiry(t, d, token)
	p.stop()
}

// checkBinding verifies the token with go-oidc, and that it names its Pod.
func checkBinding(t *testing.T, d discovered, token string, pod *corev1.Pod) {
	t.Helper()
	id, err := d.verifyWith(&oidc.Config{ClientID: audience}, token)
	if err != nil {
		t.Fatalf("go-oidc: %v", err)
	}
	type object struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	}
	var claims struct {
		Kubernetes struct {
			Pod  object `json:"pod"`
			Node object `json:"node"`
		} `json:"kubernetes.io"`
	}
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	k := claims.Kubernetes
	if want := (object{pod.Name, string(pod.UID)}); k.Pod != want {
		t.Errorf("token is bound to %+v, want %+v", k.Pod, want)
	}
	if k.Node.Name != pod.Spec.NodeName || k.Node.UID == "" {
		t.Errorf("token names node %+v, want %s and its UID", k.Node, pod.Spec.NodeName)
	}
}

// checkExpiry moves go-oidc's clock: the shortest token lives ten minutes, which
// is longer than a test should.
func checkExpiry(t *testing.T, d discovered, token string) {
	t.Helper()
	id, err := d.verifyWith(&oidc.Config{ClientID: audience}, token)
	if err != nil {
		t.Fatal(err)
	}
	at := func(now time.Time) error {
		_, err := d.verifyWith(&oidc.Config{ClientID: audience, Now: func() time.Time { return now }}, token)
		return err
	}
	if err := at(id.Expiry.Add(-time.Second)); err != nil {
		t.Errorf("a second before exp: %v", err)
	}
	var expired *oidc.TokenExpiredError
	if err := at(id.Expiry.Add(time.Second)); !errors.As(err, &expired) {
		t.Errorf("a second after exp: %v, want %T", err, expired)
	}
}
