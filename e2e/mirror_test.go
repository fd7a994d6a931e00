package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// oidcConfig is how the tests' relying parties verify.
var oidcConfig = &oidc.Config{ClientID: audience}

// mirrorInterval is how often the tests' mirrors look, give or take a tenth.
const mirrorInterval = time.Second

// mirrored is the source of an issuer that mirrors c.
func (c *cluster) mirrored(tokenFile string) string {
	return fmt.Sprintf("apiserver: {kubeconfig: %q, interval: %s}", c.projectedKubeconfig(tokenFile), mirrorInterval)
}

// projectedKubeconfig is one that logs in with the token in a file, as a Pod
// does with its projected token.
func (c *cluster) projectedKubeconfig(tokenFile string) string {
	path := c.kubeconfig("mirror.kubeconfig", "")
	data, err := os.ReadFile(path)
	if err != nil {
		c.lab.t.Fatal(err)
	}
	text := strings.Replace(string(data), `token: ""`, fmt.Sprintf("tokenFile: %q", tokenFile), 1)
	return c.lab.write("mirror.kubeconfig", text)
}

// projectToken lays down a token as the kubelet does for a Pod: of a
// ServiceAccount with no rights of its own.
func (c *cluster) projectToken(t *testing.T, path string) {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	answer, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), serviceAccount, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(answer.Status.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestMirror publishes the keys of an API server that signs with key files of
// its own, for as long as it is away too, with no more than what every
// ServiceAccount may see.
func TestMirror(t *testing.T) {
	lab := newLab(t)
	private, public := writeServiceAccountKeys(t, lab.dir)
	c := lab.newCluster()
	tokenFile := lab.path("token")
	p := lab.newProvider(calm)
	issuer := p.issuer + "/clusters/a"
	p.configure(lab.ca.tls(), map[string]string{issuer: c.mirrored(tokenFile)})
	c.startPlain(issuer, private, public)
	c.projectToken(t, tokenFile)
	p.startConfigured()

	// Strangers get from us what the API server keeps from them.
	for _, path := range []string{"/.well-known/openid-configuration", "/openid/v1/jwks"} {
		if status := statusOf(t, lab.ca.client(), "https://"+address(c.port)+path); status != http.StatusForbidden && status != http.StatusUnauthorized {
			t.Errorf("the API server answers %s to a stranger with %d", path, status)
		}
		if status := statusOf(t, lab.ca.client(), issuer+path); status != http.StatusOK {
			t.Errorf("we answer %s to a stranger with %d", path, status)
		}
	}
	old := []string{c.mustToken(t, audience), c.mustToken(t, audience)}
	checkTokens(t, c, discover(t, issuer, lab.ca.client()), "of the mirrored API server", old)

	// It is stopped for good, and our process is started again.
	c.stop()
	time.Sleep(2 * mirrorInterval) // it has been missed
	verifyMirrored(t, lab, issuer, "with the API server off", old)
	if says := p.readyzVerbose(t); !strings.Contains(says, "[!]source") || !strings.Contains(says, "connection refused") || !strings.HasSuffix(says, "\nready\n") {
		t.Errorf("/readyz?verbose while it is off:\n%s", says)
	}
	for range 2 {
		p.process.kill()
		p.startConfigured()
		verifyMirrored(t, lab, issuer, "after a restart with the API server off", old)
	}

	// It comes back with a second key, which signs from now on.
	other := lab.path("second")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	newPrivate, newPublic := writeServiceAccountKeys(t, other)
	c.start(issuer, "--service-account-signing-key-file="+newPrivate,
		"--service-account-key-file="+newPublic, "--service-account-key-file="+public)
	token := c.mustToken(t, audience)
	kid := mustHeader(t, token).KeyID
	back := time.Now()
	eventually(t, "the second key shows", mirrorInterval*11/10+time.Second, func() error {
		set, _, err := fetchKeySet(t.Context(), lab.ca.client(), issuer+"/openid/v1/jwks")
		if err == nil && len(set.Key(kid)) != 1 {
			err = fmt.Errorf("%s is not in the key set", kid)
		}
		return err
	})
	t.Logf("the second key shows %s after the API server is ready", time.Since(back).Round(time.Millisecond))
	checkTokens(t, c, discover(t, issuer, lab.ca.client()), "after the API server has come back", append(old, token))

	// Whoever takes its place with other tokens in mind is not believed.
	c.stop()
	c.startPlain(p.issuer+"/clusters/b", newPrivate, newPublic)
	c.projectToken(t, tokenFile)
	eventually(t, "the wrong issuer is told", 3*mirrorInterval, func() error {
		if says := p.readyzVerbose(t); !strings.Contains(says, p.issuer+"/clusters/b") {
			return fmt.Errorf("/readyz?verbose:\n%s", says)
		}
		return nil
	})
	verifyMirrored(t, lab, issuer, "with another issuer in its place", append(old, token))
	p.process.stop(30 * time.Second)
}

// TestMirrorRenewsItsToken goes on when the token that it logs in with is
// replaced and the old one ends.
func TestMirrorRenewsItsToken(t *testing.T) {
	lab := newLab(t)
	private, public := writeServiceAccountKeys(t, lab.dir)
	c := lab.newCluster()
	tokenFile := lab.path("token")
	p := lab.newProvider(calm)
	p.configure(lab.ca.tls(), map[string]string{p.issuer: c.mirrored(tokenFile)})
	c.startPlain(p.issuer, private, public)
	c.projectToken(t, tokenFile)
	p.startConfigured()
	c.stop()

	// None of its old tokens is good any more.
	other := lab.path("second")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	private, public = writeServiceAccountKeys(t, other)
	c.startPlain(p.issuer, private, public)
	token := c.mustToken(t, audience)
	eventually(t, "the API server refuses us", 5*mirrorInterval, func() error {
		if says := p.readyzVerbose(t); !strings.Contains(says, "401") && !strings.Contains(says, "Unauthorized") {
			return fmt.Errorf("/readyz?verbose:\n%s", says)
		}
		return nil
	})
	c.projectToken(t, tokenFile)
	eventually(t, "the new token is used", 5*mirrorInterval, func() error {
		_, err := discover(t, p.issuer, lab.ca.client()).verifyWith(oidcConfig, token)
		return err
	})
	p.process.stop(30 * time.Second)
}

func verifyMirrored(t *testing.T, lab *lab, issuer, when string, tokens []string) {
	t.Helper()
	d := discover(t, issuer, lab.ca.client())
	for i, token := range tokens {
		if _, err := d.verifyWith(oidcConfig, token); err != nil {
			t.Errorf("token %d %s: %v", i, when, err)
		}
	}
}

func statusOf(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (p *provider) readyzVerbose(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/readyz?verbose", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
