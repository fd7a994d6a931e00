package trust

import (
	"errors"
	"regexp"
	"strings"

	"oidc-provider/internal/hint"
)

// Azure is trust of Entra ID: a federated credential of a user-assigned managed
// identity, or of an application.
type Azure struct {
	Facts
	// Identity, in ResourceGroup, is a user-assigned managed identity. The
	// default has the name of the ServiceAccount.
	ResourceGroup, Identity string
	usual                   bool // Identity is that default
	// Application, instead of the two, is the client ID of an application.
	Application string
	// Credential is the name of the federated credential.
	Credential string
	// ClientID and TenantID are for the Pod's login.
	ClientID, TenantID string
}

var (
	azureGroup      = regexp.MustCompile(`^[A-Za-z0-9_().-]{0,89}[A-Za-z0-9_()-]$`)
	azureIdentity   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{2,127}$`)
	azureCredential = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{2,119}$`)
	azureID         = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
)

// Target implements [Setup].
func (a *Azure) Target() Target {
	return Target{"azure", []string{"cli", "terraform", "pod"}, "api://AzureADTokenExchange"}
}

func (a *Azure) fill(format string) error {
	if a.Identity == "" && a.Application == "" {
		a.Identity, a.usual = shorten(a.name(), 128), true
	}
	if a.Credential == "" {
		// A credential is for one issuer, so its name says which.
		a.Credential = shorten(a.name()+"_"+slug(a.host(), "-"), 120)
	}
	if a.ClientID == "" {
		a.ClientID = a.Application
	}
	switch {
	case format == "pod" && (a.ClientID == "" || a.TenantID == ""):
		return hint.Errorf("set {option.clientId} and {option.tenantId}; the commands of {option.format} cli print them last",
			"the client ID or the tenant ID is missing: the Pod logs in with them")
	case format != "pod" && a.ResourceGroup == "" && a.Application == "":
		return hint.Errorf("set {option.resourceGroup}, or {option.application} to use an app registration instead",
			"the resource group of the managed identity is missing")
	case a.Application != "" && (a.ResourceGroup != "" || a.Identity != ""):
		return hint.Errorf("set either {option.application}, or {option.resourceGroup} and {option.identity}",
			"an application and a managed identity exclude each other")
	}
	const id = "an ID like 00000000-0000-0000-0000-000000000000"
	return errors.Join(
		a.needHTTPS("Entra ID"),
		match("resourceGroup", a.ResourceGroup, azureGroup, "at most 90 letters, digits and characters of _().-"),
		match("identity", a.Identity, azureIdentity, "3 to 128 letters, digits, hyphens and underscores"),
		match("credential", a.Credential, azureCredential, "3 to 120 letters, digits, hyphens and underscores"),
		match("application", a.Application, azureID, id),
		match("clientId", a.ClientID, azureID, id), match("tenantId", a.TenantID, azureID, id))
}

// name returns the ServiceAccount without dots, which Entra ID refuses.
func (a *Azure) name() string { return strings.ReplaceAll(a.account(), ".", "_") }

// Named reports whether the identity was chosen. If not, an existing one without
// our credential has another purpose.
func (a *Azure) Named() bool { return !a.usual }

// Parameters returns the credential for `az ad app federated-credential`.
func (a *Azure) Parameters() any {
	return struct {
		Name      string   `json:"name"`
		Issuer    string   `json:"issuer"`
		Subject   string   `json:"subject"`
		Audiences []string `json:"audiences"`
	}{a.Credential, a.Issuer.String(), a.Subject(), []string{a.Audience}}
}

// IdentityLabel returns the name of the identity in Terraform.
func (a *Azure) IdentityLabel() string { return slug(a.Identity, "_") }

// Authority returns the URL where the Pod logs in. National clouds have their own
// audiences.
func (a *Azure) Authority() string {
	switch strings.TrimPrefix(a.Audience, a.Target().Audience) {
	case "USGov":
		return "https://login.microsoftonline.us/"
	case "China":
		return "https://login.partner.microsoftonline.cn/"
	}
	return "https://login.microsoftonline.com/"
}
