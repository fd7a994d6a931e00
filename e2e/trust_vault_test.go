package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A vault is a real Vault server, which forgets all when it ends.
type vault struct {
	lab *lab
	env []string // for the vault command, and so that it is found
}

func (l *lab) newVault() *vault {
	l.t.Helper()
	listen := address(l.freePort())
	server := l.startChild("vault", vaultBinary, "server", "-dev", "-dev-no-store-token",
		"-dev-root-token-id=root", "-dev-listen-address="+listen)
	server.awaitReady(30*time.Second, func() error { return expectOK(l.ca.client(), "http://"+listen+"/v1/sys/health") })
	path := filepath.Dir(vaultBinary) + string(os.PathListSeparator) + os.Getenv("PATH")
	return &vault{lab: l, env: []string{"PATH=" + path, "VAULT_ADDR=http://" + listen, "VAULT_TOKEN=root"}}
}

// A vaultToken is what a login is answered with.
type vaultToken struct {
	Policies []string
	Lifetime int `json:"lease_duration"`
	Metadata map[string]string
}

// login does what the printed Pod does.
func (v *vault) login(mount, role, token string) (vaultToken, error) {
	v.lab.t.Helper()
	file := v.lab.write("vault.jwt", token)
	cmd := exec.CommandContext(v.lab.t.Context(), vaultBinary, "write", "-format=json", "auth/"+mount+"/login", "role="+role, "jwt=@"+file)
	out, err := v.lab.execute(cmd, "", v.env...)
	if err != nil {
		return vaultToken{}, err
	}
	var answer struct{ Auth vaultToken }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return vaultToken{}, fmt.Errorf("vault printed no JSON: %w\n%s", err, out)
	}
	return answer.Auth, nil
}

// TestTrustVault sets a real Vault up with what is printed, in each of the ways
// in which it can come by the keys, and logs in with a Pod's token.
func TestTrustVault(t *testing.T) {
	lab := newLab(t)
	private, _ := writeServiceAccountKeys(t, lab.dir)
	p := lab.newProvider(usual)
	p.must(append([]string{"keys", "import", private, "--store", p.store, "--issuer", p.issuer}, p.policy.flags()...)...)
	p.start()
	c := lab.newCluster()
	c.start(p.issuer, p.signerFlags()...)
	v := lab.newVault()
	script := func(flags ...string) string {
		return p.trust("vault", append(flags, "--ca-file", lab.ca.caFile)...)
	}

	pod, _ := c.create(t, script("--format", "pod", "--address", "https://vault.example.test"))
	token := c.projectedToken(t, &pod)
	f := newForger(t, private, mustHeader(t, token).KeyID)
	mounts := map[string]string{"discovery": "jwt", "jwks": "clusters/jwks", "copy": "clusters/copy"}
	for keys, mount := range mounts {
		t.Run(keys, func(t *testing.T) {
			printed := script("--keys", keys, "--path", mount, "--policy", "till", "--ttl", "20m")
			for range 2 {
				if _, err := lab.bash(printed, v.env...); err != nil {
					t.Fatal(err)
				}
				testVaultLogin(t, v, c, f, mount, token)
			}
		})
	}

	// A mount of another issuer stays as it is.
	other := strings.ReplaceAll(script("--path", "clusters/copy"), p.issuer, p.issuer+"/other")
	_, err := lab.bash(other, v.env...)
	wantFailure(t, "a mount of another issuer", err, "auth/clusters/copy has another purpose")
	testVaultLogin(t, v, c, f, "clusters/copy", token)

	// So does a role of another ServiceAccount.
	_, err = lab.bash(strings.ReplaceAll(script(), subject, subject+"-other"), v.env...)
	wantFailure(t, "a role of another ServiceAccount", err, "There is a role "+namespace+"_"+serviceAccount+" already")
	testVaultLogin(t, v, c, f, "jwt", token)

	// So does a mount of another kind, and a Vault that does not say what it has.
	_, err = lab.bash(script("--path", "token"), v.env...)
	wantFailure(t, "a mount of another kind", err, "auth/token is of the type token")
	_, err = lab.bash(script(), append(v.env, "VAULT_TOKEN=nobody")...)
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("with no rights: %v, want a word of permission denied", err)
	}

	testVaultRotation(t, v, p, c, func() string { return script("--keys", "copy", "--path", "clusters/copy") })
	p.stop()
}

// testVaultRotation shows that a copy has the key that comes next, and must be
// renewed before the one after it signs.
func testVaultRotation(t *testing.T, v *vault, p *provider, c *cluster, script func() string) {
	rotate := func() string {
		before := mustHeader(t, c.mustToken(t, "vault")).KeyID
		p.must("keys", "rotate", "--store", p.store, "--force")
		c.awaitHandOver(t, before, recovery)
		return c.mustToken(t, "vault")
	}
	login := func(mount, token string) error {
		_, err := v.login(mount, namespace+"_"+serviceAccount, token)
		return err
	}
	token := rotate()
	for _, mount := range []string{"jwt", "clusters/jwks", "clusters/copy"} {
		if err := login(mount, token); err != nil {
			t.Errorf("%s, after a rotation: %v", mount, err)
		}
	}
	token = rotate()
	for _, mount := range []string{"jwt", "clusters/jwks"} {
		if err := login(mount, token); err != nil {
			t.Errorf("%s, after two rotations: %v", mount, err)
		}
	}
	if err := login("clusters/copy", token); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("a copy that is two rotations old: %v, want a word about the signature", err)
	}
	if _, err := v.lab.bash(script(), v.env...); err != nil {
		t.Fatal(err)
	}
	if err := login("clusters/copy", token); err != nil {
		t.Errorf("a new copy: %v", err)
	}
}

// testVaultLogin logs in with a token, and with others that differ from it in
// one thing.
func testVaultLogin(t *testing.T, v *vault, c *cluster, f forger, mount, token string) {
	t.Helper()
	const role = namespace + "_" + serviceAccount
	for what, token := range map[string]string{"a Pod's token": token, "the same by our hand": f.change(t, token, nil)} {
		got, err := v.login(mount, role, token)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if !slices.Equal(got.Policies, []string{"default", "till"}) || got.Lifetime != 20*60 || got.Metadata["role"] != role {
			t.Errorf("%s: logged in with %+v, want the policies default and till for 20 minutes", what, got)
		}
	}
	stranger := newStranger(t, mustHeader(t, token).KeyID)
	for what, refused := range map[string]struct{ token, reason string }{
		"another audience": {c.mustToken(t, audience), "invalid audience"},
		"another subject":  {f.change(t, token, map[string]any{"sub": "system:serviceaccount:" + namespace + ":other"}), "invalid subject"},
		"another issuer":   {f.change(t, token, map[string]any{"iss": "https://issuer.test"}), "invalid issuer"},
		"an expired token": {f.change(t, token, expired()), "token is expired"},
		"a stranger's key": {stranger.change(t, token, nil), "signature"},
	} {
		if _, err := v.login(mount, role, refused.token); err == nil || !strings.Contains(err.Error(), refused.reason) {
			t.Errorf("%s: %v, want a word about %q", what, err, refused.reason)
		}
	}
}
