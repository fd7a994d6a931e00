package trust_test

import (
	"slices"
	"strings"
	"testing"

	"oidc-provider/internal/trust"
)

// TestLeavesAlone runs scripts where something is that they have not made, or
// that they may not see: they say so and change nothing.
func TestLeavesAlone(t *testing.T) {
	public := facts(t, "https://oidc.example.com")
	vault := func(more ...answer) []answer { return append(more, answer{"auth list", "jwt/ jwt auth_jwt_1 n/a"}) }
	google := func(more ...answer) []answer {
		return append(more, answer{"config get-value", "shop-prod"}, answer{"projects describe", "123456789012"}, answer{"pools describe", "{}"})
	}
	ours := answer{"-field=bound_issuer", "https://oidc.example.com"}
	for what, c := range map[string]struct {
		setup   trust.Setup
		answers []answer
		want    string
	}{
		"a Vault that is sealed":       {&trust.Vault{Facts: public}, []answer{{"auth list", "!Vault is sealed"}}, "Vault is sealed"},
		"a mount of another type":      {&trust.Vault{Facts: public}, []answer{{"auth list", "jwt/ oidc auth_oidc_1 n/a"}}, "of the type oidc"},
		"a config that cannot be read": {&trust.Vault{Facts: public}, vault(answer{"jwt/config", "!permission denied"}), "permission denied"},
		"a role that cannot be read":   {&trust.Vault{Facts: public}, vault(ours, answer{"jwt/role", "!permission denied"}), "permission denied"},
		"a role of another subject":    {&trust.Vault{Facts: public}, vault(ours, answer{"jwt/role", "system:serviceaccount:shop:other"}), "There is a role shop_till already"},
		"a role without a subject":     {&trust.Vault{Facts: public}, vault(ours, answer{"jwt/role", ""}), "There is a role shop_till already"},

		"a pool that cannot be seen": {&trust.GCP{Facts: public}, google(answer{"providers list", "!forbidden"}), "forbidden"},
		"a pool with an AWS account": {&trust.GCP{Facts: public}, google(answer{"providers list", "amazon"}), "The provider amazon of the pool"},
		"a provider with a copy": {&trust.GCP{Facts: public},
			google(answer{"value(oidc.jwksJson)", "{}"}, answer{"providers list", "kubernetes\thttps://oidc.example.com"}), "has a copy of the keys"},
		"an Azure that fails": {&trust.Azure{Facts: public, ResourceGroup: "shop"}, []answer{{"identity list", "!please log in"}}, "log in"},
		"an identity that has our name": {&trust.Azure{Facts: public, ResourceGroup: "shop"}, []answer{{"identity list", "shop_till"}},
			"There is an identity shop_till already"},
		"a credential that cannot be seen": {&trust.Azure{Facts: public, ResourceGroup: "shop", Identity: "till"},
			[]answer{{"federated-credential list", "!forbidden"}, {"identity list", "till"}}, "forbidden"},
		"a credential of another subject": {&trust.Azure{Facts: public, Application: "11111111-2222-3333-4444-555555555555"},
			[]answer{{"federated-credential list", "https://oidc.example.com\tsystem:serviceaccount:shop:other"}}, "There is a credential"},
	} {
		calls, output, err := run(t, render(t, c.setup, "cli"), c.answers)
		if err == nil || !strings.Contains(output, c.want) {
			t.Errorf("%s: %v, want a word of %q:\n%s", what, err, c.want, output)
		}
		for _, call := range calls {
			if changes(call.Args) {
				t.Errorf("%s: it has run %q", what, call.Args)
			}
		}
	}
}

// changes reports whether a command is one that changes something.
func changes(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool {
		return slices.ContainsFunc([]string{"write", "enable", "create", "update", "add-", "attach-"}, func(verb string) bool { return strings.HasPrefix(a, verb) })
	})
}
