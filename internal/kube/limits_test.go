package kube_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oidc-provider/internal/kube"
)

func TestLimits(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	for _, path := range []string{root + "/file", outside + "/file"} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside+"/file", root+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(outside+"/sub", 0o700), os.Symlink(outside+"/sub", root+"/deep")); err != nil {
		t.Fatal(err)
	}
	const exec = "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: touch, args: [x]}}"
	const provider = "{auth-provider: {name: oidc, config: {idp-issuer-url: 'https://x.test', client-id: a, refresh-token: b}}}"
	for _, tt := range []struct {
		name, dir, user string
		programs        bool
		want            string // "" if it is allowed
	}{
		{"token", root, "{token: t}", false, ""},
		{"token file", root, "{tokenFile: file}", false, ""},
		{"certificate", root, fmt.Sprintf("{client-certificate: %s/file, client-key: file}", root), false, ""},
		{"exec, allowed", root, exec, true, ""},
		{"auth-provider, allowed", root, provider, true, ""},
		{"exec", root, exec, false, "neither exec nor an auth-provider is allowed"},
		{"auth-provider", root, provider, false, "neither exec nor an auth-provider is allowed"},
		{"removed auth-provider", root, "{auth-provider: {name: gcp}}", false, "neither exec nor an auth-provider is allowed"},
		{"token file elsewhere", root, fmt.Sprintf("{tokenFile: %s/file}", outside), false, outside + "/file is in no directory"},
		{"token file by a link", root, "{tokenFile: link}", false, root + "/link is in no directory"},
		{"key elsewhere", root, fmt.Sprintf("{client-certificate: file, client-key: %s/file}", outside), true, "is in no directory"},
		{"certificate elsewhere", root, fmt.Sprintf("{client-certificate: %s/file, client-key: file}", outside), false, "is in no directory"},
		{"parent", root, fmt.Sprintf("{tokenFile: ../%s/file}", filepath.Base(outside)), false, "is in no directory"},
		{"parent of a link", root, fmt.Sprintf("{tokenFile: %s/deep/../file}", root), false, "is in no directory"},
		{"kubeconfig elsewhere", outside, "{token: t}", true, "is in no directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(tt.dir, "kubeconfig")
			writeUser(t, path, "https://a.test", tt.user)
			_, err := kube.LimitedConfig(path, "", &kube.Limits{Roots: []string{root}, Programs: tt.programs})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	t.Setenv("KUBECONFIG", outside+"/kubeconfig") // that of the process
	if _, err := kube.LimitedConfig("", "", &kube.Limits{}); err != nil {
		t.Errorf("the default kubeconfig: %v", err)
	}
}
