package trust

import (
	"errors"
	"regexp"
	"strings"
)

// Azure is trust of Entra ID: a federated credential of a user-assigned managed
// identity, or of an application.
type Azure struct {
	Facts
	// Identity, of ResourceGroup, is a user-assigned managed identity, by
	// default one that is called as the ServiceAccount.
	ResourceGroup, Identity string
	usual                   bool // Identity is that default
	// Application, instead of the two, is the client ID of an application.
	Application string
	// Credential is the name of the federated credential.
	Credential string
	// ClientID and TenantID are what the Pod logs in with.
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
		return errors.New("--client-id and --tenant-id are required for a Pod (hint: the commands of --format cli print them at their end)")
	case format != "pod" && a.ResourceGroup == "" && a.Application == "":
		return errors.New("--resource-group is required: that of the managed identity (hint: --application ID is for the application of an app registration instead)")
	case a.Application != "" && (a.ResourceGroup != "" || a.Identity != ""):
		return errors.New("--application is instead of --resource-group and --identity")
	}
	const id = "it looks like 00000000-0000-0000-0000-000000000000"
	return errors.Join(
		a.needHTTPS("Entra ID"),
		match("resource-group", a.ResourceGroup, azureGroup, "a resource group has at most 90 letters, digits and characters of _().-"),
		match("identity", a.Identity, azureIdentity, "an identity has 3 to 128 letters, digits, hyphens and underscores"),
		match("credential", a.Credential, azureCredential, "a credential has 3 to 120 letters, digits, hyphens and underscores"),
		match("application", a.Application, azureID, id),
		match("client-id", a.ClientID, azureID, id), match("tenant-id", a.TenantID, azureID, id))
}

// name is the ServiceAccount without the dots that Entra ID does not take.
func (a *Azure) name() string { return strings.ReplaceAll(a.account(), ".", "_") }

// Named reports whether somebody has named the identity. If not, one that is
// there already without our credential is somebody else's.
func (a *Azure) Named() bool { return !a.usual }

// Parameters are the credential as `az ad app federated-credential` takes it.
func (a *Azure) Parameters() any {
	return struct {
		Name      string   `json:"name"`
		Issuer    string   `json:"issuer"`
		Subject   string   `json:"subject"`
		Audiences []string `json:"audiences"`
	}{a.Credential, a.Issuer.String(), a.Subject(), []string{a.Audience}}
}

// IdentityLabel is what the identity is called in Terraform.
func (a *Azure) IdentityLabel() string { return slug(a.Identity, "_") }

// Authority is where the Pod logs in. A national cloud has an audience of its
// own.
func (a *Azure) Authority() string {
	switch strings.TrimPrefix(a.Audience, a.Target().Audience) {
	case "USGov":
		return "https://login.microsoftonline.us/"
	case "China":
		return "https://login.partner.microsoftonline.cn/"
	}
	return "https://login.microsoftonline.com/"
}
