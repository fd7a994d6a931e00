package secret_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/store/secret"
	"oidc-provider/rotation"
)

func TestParse(t *testing.T) {
	namespace, name, err := secret.Parse("secret:keys/ring.a")
	if namespace != "keys" || name != "ring.a" || err != nil {
		t.Errorf("got %q, %q, %v", namespace, name, err)
	}
	for _, spec := range []string{
		"", "secret:", "secret:keys", "secret:/ring", "secret:keys/", "secret:keys/ring/x", "secret://keys/ring",
		"secret:Keys/ring", "secret:a.b/ring", "secret:keys/../ring", "secret:keys/ring%2f", "etcd:keys/ring",
		"secret:keys/" + strings.Repeat("a", 254),
	} {
		if _, _, err := secret.Parse(spec); hint.Of(err) != "use secret:namespace/name" {
			t.Errorf("%.30s: got %v", spec, err)
		}
	}
	if _, err := secret.New(&rest.Config{}, "keys", "../other"); err == nil {
		t.Error("New takes any name")
	}
}

func TestIssuer(t *testing.T) {
	for name, tt := range map[string]struct {
		code       int
		body       string
		want, hint string
	}{
		"good": {200, `{"issuer":"https://issuer.example","jwks_uri":"x"}`, "https://issuer.example", ""},
		"none": {200, `{}`, "", "is the server in the kubeconfig an API server?"},
		"page": {200, `<html>`, "", "is the server in the kubeconfig an API server?"},
		"endless": {200, `{"issuer":"https://issuer.example","x":"` + strings.Repeat("x", 1<<20) + `"}`, "",
			"is the server in the kubeconfig an API server?"},
		"forbidden": {403, `no`, "", "system:service-account-issuer-discovery"},
		"no issuer": {404, `no`, "", "--service-account-issuer"},
		"away":      {503, `no`, "", "the store is unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, a *apiServer, _ *secret.Store) {
				a.intercept(func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path != "/prefix/.well-known/openid-configuration" || r.Header.Get("Authorization") != "Bearer mine" {
						t.Errorf("asks for %s with %q", r.URL, r.Header["Authorization"])
					}
					w.WriteHeader(tt.code)
					io.WriteString(w, tt.body)
					return true
				}, nil)
				a.cfg.Host += "/prefix"
				a.cfg.BearerToken = "mine"
				got, err := a.store(t).Issuer(t.Context())
				if got != tt.want || (tt.hint == "") != (err == nil) {
					t.Errorf("got %q, %v", got, err)
				}
				text := hint.Text(err, hint.Field)
				if err != nil && (!strings.Contains(text, tt.hint) || !strings.Contains(err.Error(), "api.example:6443")) {
					t.Errorf("got %v, want %q in it", err, tt.hint)
				}
			})
		})
	}
}

func TestIssuerTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, a *apiServer, s *secret.Store) {
		a.intercept(stuck, nil)
		began := time.Now()
		_, err := s.Issuer(t.Context())
		if took := time.Since(began); !errors.Is(err, rotation.ErrUnavailable) || took != 3*time.Second {
			t.Errorf("got %v after %v", err, took)
		}
	})
}

func TestTokenIssuer(t *testing.T) {
	token := func(payload string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token(`{"iss":"https://file"}`)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ token, file, want string }{
		{"", "", ""},
		{"opaque", "", ""},
		{"a.!.c", "", ""},
		{token("no JSON"), "", ""},
		{token(`{"sub":"x"}`), "", ""},
		{token(`{"iss":"https://env"}`), "", "https://env"},
		{token(`{"iss":"https://env"}`), file, "https://file"},
		{token(`{"iss":"https://env"}`), file + "x", "https://env"},
	} {
		if got := secret.TokenIssuer(&rest.Config{BearerToken: tt.token, BearerTokenFile: tt.file}); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

func TestRBAC(t *testing.T) {
	read := rbacv1.PolicyRule{
		APIGroups:     []string{""},
		Resources:     []string{"secrets"},
		ResourceNames: []string{"null"},
		Verbs:         []string{"get", "list", "watch"},
	}
	write := read
	write.Verbs = append(slices.Clone(read.Verbs), "update")
	create := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"create"}}
	for _, tt := range []struct {
		name        string
		publishOnly bool
		role        string
		rules       []rbacv1.PolicyRule
	}{
		{"writing", false, "oidc-provider-null", []rbacv1.PolicyRule{write, create}},
		{"publishing only", true, "oidc-provider-null:publish-only", []rbacv1.PolicyRule{read}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := secret.RBAC("123", "null", "1e3:true", tt.publishOnly)
			if err != nil {
				t.Fatal(err)
			}
			comment := "# A Role cannot limit by name what may be created: remove this rule once"
			if bytes.Contains(out, []byte(comment)) == tt.publishOnly {
				t.Errorf("the comment is missing, or too much, in %s", out)
			}
			role, binding := parseRBAC(t, out)
			if diff := cmp.Diff(tt.rules, role.Rules); diff != "" {
				t.Error(diff)
			}
			version := rbacv1.SchemeGroupVersion.String()
			if role.Kind != "Role" || role.APIVersion != version || role.Namespace != "123" || role.Name != tt.role {
				t.Errorf("role %+v", role)
			}
			if binding.Kind != "RoleBinding" || binding.APIVersion != version || binding.Namespace != "123" || binding.Name != tt.role {
				t.Errorf("binding %+v", binding)
			}
			if want := (rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name}); binding.RoleRef != want {
				t.Errorf("role of the binding %+v", binding.RoleRef)
			}
			subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "1e3", Name: "true"}}
			if diff := cmp.Diff(subjects, binding.Subjects); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, bad := range [][3]string{
		{"a", "b", "c"}, {"a", "b", ":c"}, {"a", "b", "c:"}, {"a", "b", "c:d:e"}, {"A", "b", "c:d"}, {"a", "b\"", "c:d"},
	} {
		if _, err := secret.RBAC(bad[0], bad[1], bad[2], false); hint.Of(err) == "" {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func parseRBAC(t *testing.T, manifest []byte) (role rbacv1.Role, binding rbacv1.RoleBinding) {
	t.Helper()
	docs := bytes.Split(manifest, []byte("---\n"))
	if len(docs) != 2 {
		t.Fatalf("%d documents", len(docs))
	}
	if err := yaml.UnmarshalStrict(docs[0], &role); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(docs[1], &binding); err != nil {
		t.Fatal(err)
	}
	return role, binding
}
