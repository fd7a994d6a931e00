package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"filippo.io/age"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	rbacv1 "k8s.io/api/rbac/v1"
)

// kubeconfig writes a kubeconfig for this API server and returns its path.
func (c *cluster) kubeconfig(name, token string) string {
	return c.lab.write(name, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://%s", certificate-authority: %q}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`, address(c.port), c.lab.ca.caFile, token))
}

// TestSecretStore keeps a sealed ring in a Secret, with no more rights than
// `keys rbac` prints, in a cluster whose tokens another issuer signs.
func TestSecretStore(t *testing.T) {
	lab := newLab(t)
	private, public := writeServiceAccountKeys(t, lab.dir)
	c := lab.newCluster()
	c.startPlain("https://issuer.test", private, public)
	t.Setenv("KUBECONFIG", c.kubeconfig("admin.kubeconfig", adminToken))
	t.Setenv("OIDC_PROVIDER_WITNESS", "none")

	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity := lab.write("identity.txt", id.String())
	if err := os.Chmod(identity, 0o600); err != nil {
		t.Fatal(err)
	}
	p := lab.newProvider(calm)
	p.store, p.identity = "secret:"+namespace+"/ring", []string{"--age-identity", identity}
	p.change(append([]string{"init", "--issuer", p.issuer, "--recipient", id.Recipient().String()}, p.policy.flags()...)...)
	stored, err := c.client.CoreV1().Secrets(namespace).Get(t.Context(), "ring", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkSealedDocument(t, stored.Data["ring.json"])

	token, err := c.requestToken(t.Context(), shortest, nil, "https://issuer.test")
	if err != nil {
		t.Fatal(err)
	}
	admin := os.Getenv("KUBECONFIG")
	t.Setenv("KUBECONFIG", c.kubeconfig("server.kubeconfig", token))
	if _, err := p.keys(t.Context()); err == nil || !strings.Contains(err.Error(), "keys rbac") {
		t.Errorf("without a Role: %v, want a hint at keys rbac", err)
	}
	c.apply(t, p.must("keys", "rbac", "--store", p.store, "--service-account", namespace+":"+serviceAccount))
	p.start()
	before := inPhase(p.mustKeys(), "active")
	p.change("rotate", "--force")
	c2 := newLab(t).newCluster()
	c2.start(p.issuer, p.signerFlags()...)
	if kid := mustHeader(t, c2.mustToken(t, audience)).KeyID; kid == before[0] {
		t.Errorf("after a rotation %s still signs", kid)
	}
	p.stop()

	// A signer must not depend on an API server that depends on it.
	t.Setenv("KUBECONFIG", admin)
	_, err = p.run(t.Context(), "", "serve", "--store", p.store, "--issuer", "https://issuer.test", "--signer-socket", lab.socketPath(),
		"--listen", address(lab.freePort()), "--admin-listen", address(lab.freePort()))
	if err == nil || !strings.Contains(err.Error(), "could not start without its signer") {
		t.Errorf("signing for the API server that has the keys: %v, want a refusal", err)
	}
}

// apply creates the Role and the RoleBinding in manifest.
func (c *cluster) apply(t *testing.T, manifest string) {
	t.Helper()
	var role rbacv1.Role
	var binding rbacv1.RoleBinding
	first, second, _ := strings.Cut(manifest, "\n---\n")
	for text, object := range map[string]any{first: &role, second: &binding} {
		if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.client.RbacV1().Roles(namespace).Create(t.Context(), &role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.RbacV1().RoleBindings(namespace).Create(t.Context(), &binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
