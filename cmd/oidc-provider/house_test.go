package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Imports point one way, and each transport stays in the package that owns it.
// docs/design.md describes the layout.
func TestImports(t *testing.T) {
	const module = "oidc-provider"
	for _, tt := range []struct {
		packages string   // a pattern
		never    []string // prefixes of packages that these must not depend on
	}{
		{"./discovery ./jwks", []string{module + "/"}},
		{"./rotation", []string{module + "/web", module + "/internal/fleet", "github.com/labstack/echo", "google.golang.org/grpc"}},
		{"./web", []string{module + "/internal/mirror", "google.golang.org/grpc", "go.etcd.io/", "k8s.io/client-go"}},
		{"./internal/publish", []string{module + "/web", module + "/internal/store", module + "/internal/mirror", module + "/internal/config"}},
		{"./internal/... ./discovery ./jwks ./rotation ./web", []string{module + "/cmd"}},
		{"./internal/check ./internal/trust ./internal/mirror ./internal/signer", []string{module + "/internal/fleet", module + "/internal/config"}},
	} {
		args := append([]string{"list", "-f", "{{.ImportPath}} {{join .Deps \" \"}}"}, strings.Fields(tt.packages)...)
		list := exec.Command("go", args...)
		list.Dir = filepath.Join("..", "..")
		out, err := list.Output()
		if err != nil {
			t.Fatalf("go %v: %v", args, err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			pkg, deps, _ := strings.Cut(line, " ")
			for _, dep := range strings.Fields(deps) {
				if slices.ContainsFunc(tt.never, func(prefix string) bool { return strings.HasPrefix(dep, prefix) }) {
					t.Errorf("%s depends on %s", pkg, dep)
				}
			}
		}
	}
}
