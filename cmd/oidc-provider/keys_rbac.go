package main

import (
	"github.com/spf13/cobra"

	"oidc-provider/internal/store/secret"
)

func newKeysRBACCommand() *cobra.Command {
	var spec, serviceAccount string
	var publishOnly bool
	cmd := &cobra.Command{
		Use:   "rbac --store secret:NAMESPACE/NAME --service-account NAMESPACE:NAME",
		Short: "Print the Role that a store in a Secret needs",
		Long: `Print the Role, and the RoleBinding for a ServiceAccount, that let a server keep
its ring in a Secret: the least that it needs. With --publish-only the Role is for
servers with that flag, and allows reading only.`,
		Example: `  oidc-provider keys rbac --store secret:oidc/ring --service-account oidc:oidc-provider | kubectl apply -f -`,
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			namespace, name, err := secret.Parse(spec)
			if err != nil {
				return err
			}
			manifest, err := secret.RBAC(namespace, name, serviceAccount, publishOnly)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(manifest)
			return err
		},
	}
	cmd.Flags().StringVar(&spec, "store", "", "the Secret, a `STORE` like secret:NAMESPACE/NAME (required)")
	cmd.Flags().StringVar(&serviceAccount, "service-account", "",
		"ServiceAccount of the servers, as `NAMESPACE:NAME` (required)")
	cmd.Flags().BoolVar(&publishOnly, "publish-only", false,
		"print a Role for servers that only publish, which cannot write")
	return cmd
}
