package kube_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/kube"
)

func writeKubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	err := os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: first
clusters:
- {name: a, cluster: {server: "%s/a"}}
- {name: b, cluster: {server: "%[1]s/b"}}
- {name: none, cluster: {}}
users:
- {name: me, user: {token: secret-token}}
contexts:
- {name: first, context: {cluster: a, user: me}}
- {name: second, context: {cluster: b, user: me}}
- {name: none, context: {cluster: none, user: me}}
`, server), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfig(t *testing.T) {
	home := clientcmd.RecommendedHomeFile
	defer func() { clientcmd.RecommendedHomeFile = home }()
	clientcmd.RecommendedHomeFile = writeKubeconfig(t, "https://home")
	file, env := writeKubeconfig(t, "https://file"), writeKubeconfig(t, "https://env")
	missing := filepath.Join(t.TempDir(), "missing")
	for _, tt := range []struct {
		kubeconfig, env, context string
		want                     string // the host, or a part of the error and its hint
	}{
		{file, env, "", "https://file/a"},
		{file, env, "second", "https://file/b"},
		{"", env, "", "https://env/a"},
		{"", missing + ":" + env, "second", "https://env/b"},
		{"", "", "", "https://home/a"},
		{missing, env, "", missing},
		{file, "", "third", `"third" does not exist; check {kubeconfig} and {context}`},
		{"", env, "third", `"third" does not exist; check $KUBECONFIG and {context}`},
		{"", missing, "", "; set {kubeconfig} or $KUBECONFIG"},
		{file, "", "none", "no server found"},
	} {
		t.Setenv("KUBECONFIG", tt.env)
		cfg, err := kube.Config(tt.kubeconfig, tt.context)
		got := fmt.Sprint(err) + "; " + hint.Of(err)
		if err == nil {
			got = cfg.Host
		}
		if err == nil && got != tt.want || !strings.Contains(got, tt.want) {
			t.Errorf("Config(%q, %q) with KUBECONFIG=%s: got %s, want %s", tt.kubeconfig, tt.context, tt.env, got, tt.want)
		}
	}
}
