package secret

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"oidc-provider/internal/hint"
)

// Every name is quoted: "1e3" and "null" are valid names.
const rbac = `apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: "oidc-provider-%[2]s%[7]s"
  namespace: "%[1]s"
rules:
- apiGroups: [""]
  resources: ["secrets"]
  resourceNames: ["%[2]s"]
  verbs: [%[5]s]
%[6]s---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: "oidc-provider-%[2]s%[7]s"
  namespace: "%[1]s"
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: "oidc-provider-%[2]s%[7]s"
subjects:
- kind: ServiceAccount
  namespace: "%[3]s"
  name: "%[4]s"
`

// What the Role allows. Servers that only publish need to read alone.
const (
	forReading = `"get", "list", "watch"`
	forWriting = forReading + `, "update"`

	forCreating = `# A Role cannot limit by name what may be created: remove this rule once the
# Secret exists.
- apiGroups: [""]
  resources: ["secrets"]
  verbs: ["create"]
`
)

// RBAC returns, as YAML, a Role with the fewest permissions that the store in the
// Secret name of namespace needs, and a RoleBinding for serviceAccount
// ("namespace:name"). For servers that only publish, the Role allows no writes.
func RBAC(namespace, name, serviceAccount string, publishOnly bool) ([]byte, error) {
	if err := validate(namespace, name); err != nil {
		return nil, err
	}
	accountNamespace, account, _ := strings.Cut(serviceAccount, ":")
	wrong := append(validation.IsDNS1123Label(accountNamespace), validation.IsDNS1123Subdomain(account)...)
	if len(wrong) > 0 {
		return nil, hint.Errorf("use namespace:name", "ServiceAccount %q: %s", serviceAccount, wrong[0])
	}
	verbs, create, suffix := forWriting, forCreating, ""
	if publishOnly {
		// A name of its own, which no Secret gives: a cluster may need both Roles.
		verbs, create, suffix = forReading, "", ":publish-only"
	}
	return fmt.Appendf(nil, rbac, namespace, name, accountNamespace, account, verbs, create, suffix), nil
}
