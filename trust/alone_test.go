package trust_test

import (
	"slices"
	"strings"
	"testing"

	"oidc-provider/trust"
)

// TestLeavesAlone runs scripts where something is that they have not made, or
// that they may not see: they say so and change nothing.
func TestLeavesAlone(t *testing.T) {
	public := facts(t, "https://oidc.example.com")
	vault := func(more ...answer) []answer { return append(more, answer{"auth list", "jwt/ jwt auth_jwt_1 n/a"}) }
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
