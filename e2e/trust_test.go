package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// usual publishes as the program does by itself, so that the checks that go
// before a set-up find nothing.
var usual = policy{schedule: "@every 720h", algorithm: "RS256", publishAhead: 24 * time.Hour, maxAge: 5 * time.Minute}

// trust runs `oidc-provider trust` for the tests' ServiceAccount, and returns
// what it prints.
func (p *provider) trust(target string, flags ...string) string {
	p.lab.t.Helper()
	return p.must(append([]string{"trust", target, "--issuer", p.issuer,
		"--namespace", namespace, "--service-account", serviceAccount}, flags...)...)
}

// newPublicProvider serves an issuer whose URL has no port, as clouds want it.
// connectTo are the flags with which our commands find it.
func (l *lab) newPublicProvider() (p *provider, connectTo []string) {
	l.t.Helper()
	p = l.newProvider(usual)
	p.issuer = "https://" + publicHost
	p.extra = []string{"--tls-cert", l.ca.chainFile}
	return p, []string{"--connect-to", publicHost + ":443:" + p.listen}
}

// bash runs a script as people do who pipe it, with NAME=value added to the
// environment. The error of one that failed has what it wrote to stderr.
func (l *lab) bash(script string, env ...string) (string, error) {
	return l.execute(exec.CommandContext(l.t.Context(), "bash"), script, env...)
}

func (l *lab) execute(cmd *exec.Cmd, stdin string, env ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, stderr.Bytes())
	}
	return stdout.String(), nil
}

// wantFailure is for scripts that must stop with status 1, and say why.
func wantFailure(t *testing.T, what string, err error, reason string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "exit status 1\n") || !strings.Contains(err.Error(), reason) {
		t.Errorf("%s: %v, want exit status 1 and a word of %q", what, err, reason)
	}
}

// A forger has a key of the ring, and makes tokens that the API server would not.
type forger struct{ signer jose.Signer }

func newForger(t *testing.T, privateKey, kid string) forger {
	t.Helper()
	data, err := os.ReadFile(privateKey)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: kid}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	return forger{signer}
}

// newStranger has a key that nobody publishes, under the kid of one that is.
func newStranger(t *testing.T, kid string) forger {
	t.Helper()
	private, _ := writeServiceAccountKeys(t, t.TempDir())
	return newForger(t, private, kid)
}

// change makes a token that differs from this one in some claims.
func (f forger) change(t *testing.T, token string, claims map[string]any) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(payload, &all); err != nil {
		t.Fatal(err)
	}
	for name, value := range claims {
		all[name] = value
	}
	if payload, err = json.Marshal(all); err != nil {
		t.Fatal(err)
	}
	signed, err := f.signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// expired are the claims of a token that has ended, longer ago than the few
// minutes that relying parties grant.
func expired() map[string]any {
	began := time.Now().Add(-time.Hour)
	return map[string]any{"iat": began.Unix(), "nbf": began.Unix(), "exp": began.Add(shortest).Unix()}
}

var resources = map[string]string{"ServiceAccount": "serviceaccounts", "ConfigMap": "configmaps", "Pod": "pods"}

// create makes what a printed Pod consists of. The API server refuses each
// field that it does not know.
func (c *cluster) create(t *testing.T, text string) (pod corev1.Pod, configMap corev1.ConfigMap) {
	t.Helper()
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var meta struct {
			Kind     string
			Metadata struct{ Namespace string }
		}
		if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		data, err := c.client.CoreV1().RESTClient().Post().
			Namespace(meta.Metadata.Namespace).Resource(resources[meta.Kind]).
			Param("fieldValidation", "Strict").
			SetHeader("Content-Type", "application/yaml").SetHeader("Accept", "application/json").
			Body([]byte(doc)).DoRaw(t.Context())
		if meta.Kind == "ServiceAccount" {
			err = ignoreExists(err)
		}
		if err != nil {
			t.Fatalf("the API server does not take it: %v\n%s\n%s", err, data, doc)
		}
		switch meta.Kind {
		case "Pod":
			err = json.Unmarshal(data, &pod)
		case "ConfigMap":
			err = json.Unmarshal(data, &configMap)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return pod, configMap
}

// projectedToken is the token that the kubelet would lay down for a printed Pod.
func (c *cluster) projectedToken(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	for _, volume := range pod.Spec.Volumes {
		if volume.Name != "token" {
			continue
		}
		source := volume.Projected.Sources[0].ServiceAccountToken
		life := time.Duration(*source.ExpirationSeconds) * time.Second
		token, err := c.requestToken(t.Context(), life, boundTo(pod), source.Audience)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	t.Fatalf("the Pod %s has no volume of a token", pod.Name)
	return ""
}
