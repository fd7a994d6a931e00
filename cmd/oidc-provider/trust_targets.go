package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"oidc-provider/internal/check"
	"oidc-provider/internal/trust"
)

func newTrustAWSCommand() *cobra.Command {
	a := new(trust.AWS)
	t := newTrust(a, &a.Facts, "aws")
	t.seen = func(cmd *cobra.Command, seen *check.Observation) error {
		if !a.Private() {
			return nil
		}
		if a.Thumbprints = thumbprints(cmd, seen); a.Thumbprints == nil {
			warn(cmd, "no thumbprint of the private CA, since no certificate was seen")
		}
		return nil
	}
	return t.command(&cobra.Command{
		Short: "Print an identity provider and a role for AWS IAM",
		Long: `Print what lets a ServiceAccount assume a role of AWS IAM: an identity provider
and a role that trusts it, as commands or as Terraform, and a Pod that assumes it.

With --ca-file, the provider has thumbprints of the certificates that are seen
now: those of a private CA must be renewed there when the CA changes.`,
		Example: `  oidc-provider trust aws --issuer https://oidc.example.com -n backup --service-account uploader \
    --policy-arn arn:aws:iam::aws:policy/AmazonS3FullAccess | bash
  oidc-provider trust aws --issuer https://oidc.example.com -n backup --service-account uploader --format terraform >trust.tf
  oidc-provider trust aws --issuer https://oidc.example.com -n backup --service-account uploader --format pod --account 123456789012`,
	}, func(f *pflag.FlagSet) {
		f.StringVar(&a.RoleName, "role-name", "", "name of the role (default NAMESPACE_SERVICEACCOUNT)")
		f.StringVar(&a.Account, "account", "", "AWS account, 12 digits: the commands refuse to run in another, and a Pod needs it")
		f.StringVar(&a.Region, "region", "", "region for the Pod; also tells the China and GovCloud partitions")
		f.StringArrayVar(&a.Policies, "policy-arn", nil, "policy to attach to the role; may be given several times")
	})
}

func newTrustGCPCommand() *cobra.Command {
	g := new(trust.GCP)
	t := newTrust(g, &g.Facts, "gcp")
	// Where Google holds a copy, it is only for us to reach the issuer.
	t.parties = func() []string {
		if g.Copied() {
			return []string{"gcp", "go-oidc"}
		}
		return []string{"gcp"}
	}
	t.matters = func(r check.Result) bool {
		return !g.Copied() || r.Concerns("go-oidc") || r.Check == "gcp/keys"
	}
	return t.command(&cobra.Command{
		Short: "Print a workload identity pool and a provider for Google Cloud",
		Long: `Print what lets a ServiceAccount into Google Cloud: a workload identity pool with
a provider, and what it may do, as commands or as Terraform, and a Pod that logs
in. It acts as a Google service account, or as itself.

An issuer that Google cannot reach, or whose CA it cannot know, gives it a copy
of its keys: --keys copy, which is usual with --ca-file. New keys must be brought
there before they sign, with the same command.`,
		Example: `  oidc-provider trust gcp --issuer https://oidc.example.com -n backup --service-account uploader \
    --google-service-account uploader@my-project.iam.gserviceaccount.com | bash
  oidc-provider trust gcp --issuer https://oidc.example.com -n backup --service-account uploader \
    --role roles/storage.objectAdmin --format terraform >trust.tf
  oidc-provider trust gcp --issuer https://oidc.internal.example.com --ca-file ca.crt --project my-project | bash
  oidc-provider trust gcp --issuer https://oidc.example.com --format pod --project-number 123456789012`,
	}, func(f *pflag.FlagSet) {
		f.StringVar(&g.Project, "project", "", "ID of the project (default the one that gcloud is set to)")
		f.StringVar(&g.ProjectNumber, "project-number", "", "number of the project; a Pod needs it")
		f.StringVar(&g.Pool, "pool", "", "workload identity pool, one for each issuer (default from the issuer)")
		f.StringVar(&g.Provider, "provider", "kubernetes", "provider in the pool")
		f.StringVar(&g.GoogleServiceAccount, "google-service-account", "", "e-mail address of the Google service account to act as")
		f.StringArrayVar(&g.Roles, "role", nil, "role of the ServiceAccount itself in the project; may be given several times")
		f.StringVar(&g.KeysFrom, "keys", "", "where Google has the keys from: discovery or copy (default copy with --ca-file, else discovery)")
		f.Lookup("audience").Usage += " (default the name of the provider, as Google wants it)"
	})
}

func newTrustAzureCommand() *cobra.Command {
	a := new(trust.Azure)
	return newTrust(a, &a.Facts, "azure").command(&cobra.Command{
		Short: "Print a federated credential for Entra ID",
		Long: `Print what lets a ServiceAccount log in to Entra ID: a federated credential of a
user-assigned managed identity, or of an application, as commands or as
Terraform, and a Pod that logs in. The managed identity is made if it is missing.`,
		Example: `  oidc-provider trust azure --issuer https://oidc.example.com -n backup --service-account uploader --resource-group backup | bash
  oidc-provider trust azure --issuer https://oidc.example.com -n backup --service-account uploader --resource-group backup --format terraform >trust.tf
  oidc-provider trust azure --issuer https://oidc.example.com --application 11111111-2222-3333-4444-555555555555 | bash
  oidc-provider trust azure --issuer https://oidc.example.com -n backup --service-account uploader --format pod \
    --client-id 11111111-2222-3333-4444-555555555555 --tenant-id 99999999-2222-3333-4444-555555555555`,
	}, func(f *pflag.FlagSet) {
		f.StringVar(&a.ResourceGroup, "resource-group", "", "resource group of the managed identity")
		f.StringVar(&a.Identity, "identity", "", "managed identity, also one that is there already (default NAMESPACE_SERVICEACCOUNT, a new one)")
		f.StringVar(&a.Application, "application", "", "client ID of an application, instead of a managed identity")
		f.StringVar(&a.Credential, "credential", "", "name of the federated credential (default from the ServiceAccount and the issuer)")
		f.StringVar(&a.ClientID, "client-id", "", "client ID of the identity, for a Pod")
		f.StringVar(&a.TenantID, "tenant-id", "", "ID of the tenant, for a Pod")
	})
}

func newTrustVaultCommand() *cobra.Command {
	v := new(trust.Vault)
	return newTrust(v, &v.Facts, "vault").command(&cobra.Command{
		Short: "Print the jwt auth method for Vault or OpenBao",
		Long: `Print what lets a ServiceAccount log in to HashiCorp Vault or OpenBao: a mount of
the jwt auth method, which has one issuer, and a role, as commands or as
Terraform, and a Pod that logs in.

--keys says where Vault has the keys from: it asks the issuer (discovery), or its
jwks_uri alone (jwks), or holds a copy and asks nobody (copy), for a Vault that
cannot reach the issuer. New keys must be copied before they sign.`,
		Example: `  oidc-provider trust vault --issuer https://oidc.example.com -n backup --service-account uploader --policy backup | bash
  oidc-provider trust vault --issuer https://oidc.example.com --ca-file ca.crt --keys jwks --format terraform >trust.tf
  oidc-provider trust vault --issuer https://oidc.example.com --keys copy --path clusters/a | bash
  oidc-provider trust vault --issuer https://oidc.example.com --format pod --address https://vault.example.com:8200`,
	}, func(f *pflag.FlagSet) {
		f.StringVar(&v.Path, "path", "jwt", "where the auth method is mounted, below auth/")
		f.StringVar(&v.RoleName, "role-name", "", "name of the role (default NAMESPACE_SERVICEACCOUNT)")
		f.StringArrayVar(&v.Policies, "policy", nil, "policy of Vault's tokens; may be given several times")
		f.DurationVar(&v.TTL, "ttl", 0, "how long Vault's tokens live (default 1h)")
		f.StringVar(&v.KeysFrom, "keys", trust.KeysDiscovery, "where Vault has the keys from: discovery, jwks or copy")
		f.StringVar(&v.Address, "address", "", "URL of Vault, for a Pod")
	})
}

func newTrustKubernetesCommand() *cobra.Command {
	k := new(trust.Kubernetes)
	t := newTrust(k, &k.Facts, "kubernetes")
	t.elsewhere = func() bool { return k.DiscoveryURL != "" }
	var caFile string
	cmd := t.command(&cobra.Command{
		Short: "Print an AuthenticationConfiguration for another cluster",
		Long: `Print the AuthenticationConfiguration with which the API server of another cluster
lets the ServiceAccounts of this issuer in, or with --service-account that one
alone, and a Pod that asks it who it is. They are users with a prefix that makes
them nobody's in that cluster. They have what the group system:authenticated is
given there; more is for RBAC: a comment says how.`,
		Example: `  oidc-provider trust kubernetes --issuer https://oidc.example.com --audience cluster-b -n backup --service-account uploader >authentication.yaml
  oidc-provider trust kubernetes --issuer https://oidc.example.com --audience cluster-b -n backup --service-account uploader \
    --format pod --server https://b.example.com:6443 --server-ca-file b.crt | kubectl apply -f -`,
	}, func(f *pflag.FlagSet) {
		f.Lookup("audience").Usage += ", a name of that cluster (required)"
		f.StringVar(&k.Prefix, "username-prefix", "", "what the names of the users begin with (default the issuer and #)")
		f.StringVar(&k.DiscoveryURL, "discovery-url", "", "where that API server reaches the issuer's configuration, if not at the issuer")
		f.DurationVar(&k.MaxTokenLifetime, "max-token-lifetime", 0, "longest life of a token that is let in (default 24h)")
		f.StringVar(&k.Server, "server", "", "URL of that API server, for a Pod")
		f.StringVar(&caFile, "server-ca-file", "", "PEM file of the CA of that API server, for a Pod")
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
	return newTrust(g, &g.Facts, "go-oidc").command(&cobra.Command{
		Short: "Print what any relying party must know and check",
		Long: `Print what any relying party must know of the issuer and check of its tokens, in
words and in Go, and a Pod that has such a token.`,
		Example: `  oidc-provider trust generic --issuer https://oidc.example.com --audience demo -n shop --service-account till
  oidc-provider trust generic --issuer https://oidc.example.com --audience demo --format pod | kubectl apply -f -`,
	}, func(f *pflag.FlagSet) { f.Lookup("audience").Usage += " (required)" })
}
