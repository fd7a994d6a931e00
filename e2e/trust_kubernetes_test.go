package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// newTrustingCluster runs another API server, beside the first one in its etcd,
// with an AuthenticationConfiguration. It has a ServiceAccount of the same name
// as the first, and signs with a key of its own.
func (c *cluster) newTrustingCluster(config string) *cluster {
	c.lab.t.Helper()
	dir := c.lab.path("trusting")
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.lab.t.Fatal(err)
	}
	private, public := writeServiceAccountKeys(c.lab.t, dir)
	b := c.lab.newAPIServer("trusting-apiserver", c.etcd)
	b.start("https://b.example.test",
		"--etcd-prefix=/trusting",
		"--service-account-signing-key-file="+private, "--service-account-key-file="+public,
		"--authentication-config="+c.lab.write("authentication.yaml", config))
	return b
}

// whoAmI asks an API server, as `kubectl auth whoami` does.
func whoAmI(ctx context.Context, config *rest.Config) (authenticationv1.UserInfo, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	answer, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	return answer.Status.UserInfo, nil
}

// bearer is a stranger to c who has nothing but a token.
func (c *cluster) bearer(token string) *rest.Config {
	return &rest.Config{
		Host: "https://" + address(c.port), BearerToken: token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.lab.ca.caFile}, Timeout: 15 * time.Second,
	}
}

// inPod is the kubeconfig of a printed Pod, with the token where that Pod has it.
func (l *lab) inPod(kubeconfig, token string) *rest.Config {
	l.t.Helper()
	const mounted = "/var/run/secrets/kubernetes/token"
	if strings.Count(kubeconfig, mounted) != 1 {
		l.t.Fatalf("no %s in\n%s", mounted, kubeconfig)
	}
	file := l.write("trust.kubeconfig", strings.Replace(kubeconfig, mounted, l.write("trust.jwt", token), 1))
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		l.t.Fatal(err)
	}
	return config
}

// TestTrustKubernetes gives what is printed to a second API server, which lets
// a Pod of the first cluster in under another name.
func TestTrustKubernetes(t *testing.T) {
	lab := newLab(t)
	private, _ := writeServiceAccountKeys(t, lab.dir)
	p := lab.newProvider(usual)
	p.must(append([]string{"keys", "import", private, "--store", p.store, "--issuer", p.issuer}, p.policy.flags()...)...)
	p.start()
	a := lab.newCluster()
	a.start(p.issuer, p.signerFlags()...)

	const clusterB = "https://b.example.test"
	flags := []string{"--audience", clusterB, "--ca-file", lab.ca.caFile}
	b := a.newTrustingCluster(p.trust("kubernetes", append(flags, "--max-token-lifetime", "11m")...))
	pod, configMap := a.create(t, p.trust("kubernetes", append(flags, "--format", "pod",
		"--server", "https://"+address(b.port), "--server-ca-file", lab.ca.caFile)...))
	token := a.projectedToken(t, &pod)
	config := lab.inPod(configMap.Data["config"], token)

	// It asks the issuer for its keys in the background.
	var user authenticationv1.UserInfo
	eventually(t, "the second API server lets a Pod of the first in", 30*time.Second, func() (err error) {
		user, err = whoAmI(t.Context(), config)
		return err
	})
	name := p.issuer + "#" + subject
	if user.Username != name || !slices.Equal(user.Groups, []string{"system:authenticated"}) {
		t.Errorf("the Pod is %+v in the second cluster, want the user %s in no group of its own", user, name)
	}
	account, err := a.client.CoreV1().ServiceAccounts(namespace).Get(t.Context(), serviceAccount, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if user.UID != string(account.UID) {
		t.Errorf("the Pod has the UID %q in the second cluster, want its ServiceAccount's, %q", user.UID, account.UID)
	}

	t.Run("rights", func(t *testing.T) { testForeignRights(t, b, config, name) })
	t.Run("refused", func(t *testing.T) {
		testForeignTokens(t, a, b, newForger(t, private, mustHeader(t, token).KeyID), token)
	})
	t.Run("pods", func(t *testing.T) { testPods(t, p, a) })
	t.Run("changed", func(t *testing.T) { testForeignName(t, p, b, config, flags) })
	p.stop()
}

// TestTrustKubernetesElliptic shows that an API server with an
// AuthenticationConfiguration takes other algorithms than RS256, too.
func TestTrustKubernetesElliptic(t *testing.T) {
	lab := newLab(t)
	elliptic := usual
	elliptic.algorithm = "ES256"
	p := lab.newProvider(elliptic)
	p.init()
	p.start()
	a := lab.newCluster()
	a.start(p.issuer, p.signerFlags()...)
	b := a.newTrustingCluster(p.trust("kubernetes", "--audience", "b", "--ca-file", lab.ca.caFile))
	token := a.mustToken(t, "b")
	if got := mustHeader(t, token).Algorithm; got != "ES256" {
		t.Fatalf("the token is signed with %s, want ES256", got)
	}
	eventually(t, "the second API server lets a ServiceAccount of the first in", 30*time.Second, func() error {
		_, err := whoAmI(t.Context(), b.bearer(token))
		return err
	})
	p.stop()
}

// testPods has the first cluster take the Pods that are printed for other relying
// parties, with tokens for them. Clouds would not take this issuer, hence --force.
func testPods(t *testing.T, p *provider, a *cluster) {
	for target, test := range map[string]struct {
		audience string
		flags    []string
	}{
		"aws":     {"sts.amazonaws.com", []string{"--account", awsAccount, "--region", "eu-central-1"}},
		"gcp":     {"https://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/pool/providers/kubernetes", []string{"--project-number", "123456789012", "--pool", "pool"}},
		"azure":   {"api://AzureADTokenExchange", []string{"--client-id", "11111111-2222-3333-4444-555555555555", "--tenant-id", "99999999-2222-3333-4444-555555555555"}},
		"generic": {audience, []string{"--audience", audience}},
	} {
		text := p.trust(target, append(test.flags, "--format", "pod", "--force", "--ca-file", p.lab.ca.caFile)...)
		pod, _ := a.create(t, text)
		token := a.projectedToken(t, &pod)
		if _, err := p.verify(t.Context(), token, test.audience); err != nil {
			t.Errorf("the token of the Pod for %s: %v", target, err)
		}
	}
}

// testForeignRights shows that the user of another cluster has the rights that
// it is given, and not those of the ServiceAccount of the same name.
func testForeignRights(t *testing.T, b *cluster, config *rest.Config, name string) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	list := func() error {
		_, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		return err
	}
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "pods"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"list"}, APIGroups: []string{""}, Resources: []string{"pods"}}},
	}
	if _, err := b.client.RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bind := func(binding string, who rbacv1.Subject) {
		t.Helper()
		_, err := b.client.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: binding},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
			Subjects:   []rbacv1.Subject{who},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	bind("own", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: serviceAccount, Namespace: namespace})
	own, err := b.requestToken(t.Context(), shortest, nil, "https://b.example.test")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster's own ServiceAccount sees Pods", 10*time.Second, func() error {
		client := kubernetes.NewForConfigOrDie(b.bearer(own))
		_, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		return err
	})
	if err := list(); !apierrors.IsForbidden(err) {
		t.Errorf("the foreign one lists Pods, since the cluster's own may: %v, want forbidden", err)
	}
	bind("foreign", rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name})
	eventually(t, "the foreign ServiceAccount sees Pods once it may", 10*time.Second, list)
}

// testForeignTokens presents tokens that differ in one thing from one that is
// let in. The API server tells its log why it refuses them.
func testForeignTokens(t *testing.T, a, b *cluster, f forger, token string) {
	if _, err := whoAmI(t.Context(), b.bearer(f.change(t, token, nil))); err != nil {
		t.Errorf("the same token by our hand: %v", err)
	}
	stranger := newStranger(t, mustHeader(t, token).KeyID)
	for what, refused := range map[string]struct{ token, reason string }{
		"another audience":  {a.mustToken(t, audience), "expected audience"},
		"an expired token":  {f.change(t, token, expired()), "token is expired"},
		"an unknown issuer": {f.change(t, token, map[string]any{"iss": "https://unknown.example.test"}), `err="invalid bearer token"`},
		"a stranger's key":  {stranger.change(t, token, nil), "failed to verify signature"},
		"a long life":       {f.change(t, token, map[string]any{"exp": time.Now().Add(12 * time.Minute).Unix()}), "lives longer than 660 seconds"},
		"another subject":   {f.change(t, token, map[string]any{"sub": "system:serviceaccount:kube-system:admin"}), "not for a ServiceAccount"},
		"another account": {f.change(t, token, map[string]any{
			"sub":           "system:serviceaccount:" + namespace + ":other",
			"kubernetes.io": map[string]any{"namespace": namespace, "serviceaccount": map[string]any{"name": "other", "uid": "other"}},
		}), "for another ServiceAccount"},
		"a subject of no kind": {f.change(t, token, map[string]any{"sub": "system:masters"}), "not for a ServiceAccount"},
	} {
		from := len(b.server.output())
		if user, err := whoAmI(t.Context(), b.bearer(refused.token)); !apierrors.IsUnauthorized(err) {
			t.Errorf("%s: %+v, %v, want unauthorized", what, user, err)
		}
		eventually(t, what+" is refused for the right reason", 10*time.Second, func() error {
			if log := b.server.output()[from:]; !bytes.Contains(log, []byte(refused.reason)) {
				return fmt.Errorf("no %q in\n%s", refused.reason, log)
			}
			return nil
		})
	}
}

// testForeignName changes the configuration of a running API server, to one with
// another prefix that has the metadata from elsewhere.
func testForeignName(t *testing.T, p *provider, b *cluster, config *rest.Config, flags []string) {
	changed := p.trust("kubernetes", append(flags, "--username-prefix", "a:",
		"--discovery-url", strings.Replace(p.issuer, "localhost", "127.0.0.1", 1)+"/.well-known/openid-configuration")...)
	path := b.lab.write("authentication.yaml.new", changed)
	if err := os.Rename(path, b.lab.path("authentication.yaml")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Pod has its new name", 90*time.Second, func() error {
		user, err := whoAmI(t.Context(), config)
		if err == nil && user.Username != "a:"+subject {
			err = fmt.Errorf("it is still %s", user.Username)
		}
		return err
	})
}
