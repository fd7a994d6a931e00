package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/internal/trust"
)

func newTrustAWSCommand() *cobra.Command {
	a := new(trust.AWS)
	return newTrust(a, &a.Facts).command(&cobra.Command{
		Short: "Print an identity provider and a role for AWS IAM",
		Long: `Print what lets a ServiceAccount assume a role of AWS IAM: an identity provider
and a role that trusts it, as commands or as Terraform, and a Pod that assumes it.

With --ca-file, the provider gets the thumbprints of the current certificates.
Update them there when the private CA changes.`,
		Example: `  oidc-provider trust aws --issuer https://oidc.example.com -n backup --service-account uploader \
    --policy-arn arn:aws:iam::aws:policy/AmazonS3FullAccess | bash
  oidc-provider trust aws --issuer https://oidc.example.com \
    -n backup --service-account uploader --format terraform >trust.tf
  oidc-provider trust aws --issuer https://oidc.example.com \
    -n backup --service-account uploader --format pod --account 123456789012`,
	}, func(f *pflag.FlagSet) {
		f.StringVar(&a.RoleName, "role-name", "", "`NAME` of the role (default NAMESPACE_SERVICEACCOUNT)")
		f.StringVar(&a.Account, "account", "",
			"AWS account `ID`, 12 digits: the commands refuse to run in another, and a Pod needs it")
		f.StringVar(&a.Region, "region", "", "`REGION` for the Pod; also selects the China or GovCloud partition")
		f.StringArrayVar(&a.Policies, "policy-arn", nil,
			"`ARN` of a policy to attach to the role; may be given several times")
	})
}

func newTrustGCPCommand() *cobra.Command {
	g := new(trust.GCP)
	return newTrust(g, &g.Facts).command(&cobra.Command{
		Short: "Print a workload identity pool and a provider for Google Cloud",
		Long: `Print what gives a ServiceAccount access to Google Cloud: a workload identity pool
with a provider, and its permissions, as commands or as Terraform, and a Pod that
logs in. It acts as a Google service account, or as itself.

If Google cannot reach the issuer, or cannot trust its CA, upload a copy of the
keys with --keys copy (the default with --ca-file). Run the same command again
before a new key signs.`,
		Example: `  oidc-provider trust gcp --issuer https://oidc.example.com -n backup --service-account uploader \
    --google-service-account uploader@my-project.iam.gserviceaccount.com | bash
  oidc-provider trust gcp --issuer https://oidc.example.com -n backup --service-account uploader \
    --role roles/storage.objectAdmin --format terraform >trust.tf
  oidc-provider trust gcp --issuer https://oidc.internal.example.com --ca-file ca.crt --project my-project | bash
  oidc-provider trust gcp --issuer https://oidc.example.com --format pod --project-number 123456789012`,
	}, func(f *pflag.FlagSet) {
		f.StringVar(&g.Project, "project", "", "`ID` of the project (default the current project of gcloud)")
		f.StringVar(&g.ProjectNumber, "project-number", "", "`NUMBER` of the project; a Pod needs it")
		f.StringVar(&g.Pool, "pool", "",
			"`NAME` of the workload identity pool, one for each issuer (default from the issuer)")
		f.StringVar(&g.Provider, "provider", "kubernetes", "`NAME` of the provider in the pool")
		f.StringVar(&g.GoogleServiceAccount, "google-service-account", "",
			"`EMAIL` address of the Google service account to act as")
		f.StringArrayVar(&g.Roles, "role", nil,
			"`ROLE` of the ServiceAccount itself in the project; may be given several times")
		f.StringVar(&g.KeysFrom, "keys", "",
			"`SOURCE` of the keys for Google: discovery or copy (default copy with --ca-file, else discovery)")
		f.Lookup("audience").Usage += " (default the name of the provider, which Google expects)"
	})
}

func newTrustAzureCommand() *cobra.Command {
	a := new(trust.Azure)
	return newTrust(a, &a.Facts).command(&cobra.Command{
		Short: "Print a federated credential for Entra ID",
		Long: `Print what lets a ServiceAccount log in to Entra ID: a federated credential of a
user-assigned managed identity, or of an application, as commands or as
Terraform, and a Pod that logs in. A missing managed identity is created.`,
		Example: `  oidc-provider trust azure --issuer https://oidc.example.com \
    -n backup --service-account uploader --resource-group backup | bash
  oidc-provider trust azure --issuer https://oidc.example.com \
    -n backup --service-account uploader --resource-group backup --format terraform >trust.tf
  oidc-provider trust azure --issuer https://oidc.example.com --application 11111111-2222-3333-4444-555555555555 | bash
  oidc-provider trust azure --issuer https://oidc.example.com -n backup --service-account uploader --format pod \
    --client-id 11111111-2222-3333-4444-555555555555 --tenant-id 99999999-2222-3333-4444-555555555555`,
	}, func(f *pflag.FlagSet) {
		f.StringVar(&a.ResourceGroup, "resource-group", "", "resource group `NAME` of the managed identity")
		f.StringVar(&a.Identity, "identity", "",
			"`NAME` of the managed identity, new or existing (default NAMESPACE_SERVICEACCOUNT, a new one)")
		f.StringVar(&a.Application, "application", "", "client `ID` of an application, instead of a managed identity")
		f.StringVar(&a.Credential, "credential", "",
			"`NAME` of the federated credential (default from the ServiceAccount and the issuer)")
		f.StringVar(&a.ClientID, "client-id", "", "client `ID` of the identity, for a Pod")
		f.StringVar(&a.TenantID, "tenant-id", "", "`ID` of the tenant, for a Pod")
	})
}

func newTrustVaultCommand() *cobra.Command {
	v := new(trust.Vault)
	return newTrust(v, &v.Facts).command(&cobra.Command{
		Short: "Print the jwt auth method for Vault or OpenBao",
		Long: `Print what lets a ServiceAccount log in to HashiCorp Vault or OpenBao: a mount of
the jwt auth method, which has one issuer, and a role, as commands or as
Terraform, and a Pod that logs in.

--keys selects the source of the keys: Vault asks the issuer (discovery) or only
its jwks_uri (jwks), or has a copy (copy), if it cannot reach the issuer. Run the
same command again before a new key signs if Vault has a copy.`,
		Example: `  oidc-provider trust vault --issuer https://oidc.example.com \
    -n backup --service-account uploader --policy backup | bash
  oidc-provider trust vault --issuer https://oidc.example.com --ca-file ca.crt --keys jwks --format terraform >trust.tf
  oidc-provider trust vault --issuer https://oidc.example.com --keys copy --path clusters/a | bash
  oidc-provider trust vault --issuer https://oidc.example.com --format pod --address https://vault.example.com:8200`,
	}, func(f *pflag.FlagSet) {
		f.StringVar(&v.Path, "path", "jwt", "`PATH` of the auth method's mount, below auth/")
		f.StringVar(&v.RoleName, "role-name", "", "`NAME` of the role (default NAMESPACE_SERVICEACCOUNT)")
		f.StringArrayVar(&v.Policies, "policy", nil, "`NAME` of a policy of Vault's tokens; may be given several times")
		f.DurationVar(&v.TTL, "ttl", 0, "lifetime `DURATION` of Vault's tokens (default 1h)")
		f.StringVar(&v.KeysFrom, "keys", trust.KeysDiscovery, "`SOURCE` of the keys for Vault: discovery, jwks or copy")
		f.StringVar(&v.Address, "address", "", "`URL` of Vault, for a Pod")
	})
}

func newTrustKubernetesCommand() *cobra.Command {
	k := new(trust.Kubernetes)
	var caFile string
	cmd := newTrust(k, &k.Facts).command(&cobra.Command{
		Short: "Print an AuthenticationConfiguration for another cluster",
		Long: `Print the AuthenticationConfiguration with which the API server of another cluster
accepts the ServiceAccounts of this issuer, or only one with --service-account,
and a Pod that asks that server for its identity. They become users with a prefix
that no user of that cluster has. Their permissions are those of the group
system:authenticated; a comment shows how RBAC grants more.`,
		Example: `  oidc-provider trust kubernetes --issuer https://oidc.example.com --audience cluster-b \
    -n backup --service-account uploader >authentication.yaml
  oidc-provider trust kubernetes --issuer https://oidc.example.com --audience cluster-b \
    -n backup --service-account uploader \
    --format pod --server https://b.example.com:6443 --server-ca-file b.crt | kubectl apply -f -`,
	}, func(f *pflag.FlagSet) {
		f.Lookup("audience").Usage += ", a name for that cluster (required)"
		f.StringVar(&k.Prefix, "username-prefix", "", "`PREFIX` of the names of the users (default the issuer and #)")
		f.StringVar(&k.DiscoveryURL, "discovery-url", "",
			"`URL` at which that API server fetches the discovery document, if not at the issuer")
		f.DurationVar(&k.MaxTokenLifetime, "max-token-lifetime", 0, "longest lifetime `DURATION` of a token (default 24h)")
		f.StringVar(&k.Server, "server", "", "`URL` of that API server, for a Pod")
		f.StringVar(&caFile, "server-ca-file", "", "PEM `FILE` with the CA of that API server, for a Pod")
	})
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if caFile != "" {
			if k.ServerCA, err = os.ReadFile(caFile); err != nil {
				return fmt.Errorf("--server-ca-file: %w", err)
			}
		}
		k.Only = cmd.Flags().Changed("service-account")
		return run(cmd, args)
	}
	return cmd
}

func newTrustGenericCommand() *cobra.Command {
	g := new(trust.Generic)
	return newTrust(g, &g.Facts).command(&cobra.Command{
		Short: "Print what any relying party must know and check",
		Long: `Print what any relying party must know about the issuer and check in its tokens,
in words and in Go, and a Pod that has such a token.`,
		Example: `  oidc-provider trust generic --issuer https://oidc.example.com --audience demo \
    -n shop --service-account till
  oidc-provider trust generic --issuer https://oidc.example.com --audience demo --format pod | kubectl apply -f -`,
	}, func(f *pflag.FlagSet) { f.Lookup("audience").Usage += " (required)" })
}
