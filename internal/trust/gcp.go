package trust

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// Sources of the keys for a relying party.
const (
	KeysDiscovery = "discovery" // it asks the issuer
	KeysJWKS      = "jwks"      // it asks the jwks_uri
	KeysCopy      = "copy"      // it has a copy of the keys, and asks no server
)

// GCP is trust of Google Cloud: a workload identity pool with a provider, and
// the permissions of the ServiceAccount.
type GCP struct {
	Facts
	Project       string // ID; default the current project of gcloud
	ProjectNumber string
	// Pool has a default for each issuer: a principal is a subject of a pool, no
	// matter which of its providers has authenticated it.
	Pool, Provider string
	// GoogleServiceAccount is the e-mail address of the account to act as.
	// Without it, the ServiceAccount itself is the principal.
	GoogleServiceAccount string
	Roles                []string // to grant to the principal in the project
	KeysFrom             string   // discovery or copy; default copy with a private CA
}

var (
	gcpProject        = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	gcpNumber         = regexp.MustCompile(`^[0-9]{6,20}$`)
	gcpPool           = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{2,30}[a-z0-9]$`)
	gcpServiceAccount = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*@[a-z0-9][a-z0-9.-]*\.gserviceaccount\.com$`)
	gcpRole           = regexp.MustCompile(`^((projects|organizations)/[a-z0-9.:-]+/)?roles/[A-Za-z0-9_.]{1,100}$`)
)

// maxGoogleSubject is the longest google.subject in bytes.
const maxGoogleSubject = 127

// Target implements [Setup].
func (g *GCP) Target() Target {
	return Target{"gcp", []string{"cli", "terraform", "pod"}, ""}
}

func (g *GCP) fill(format string) error {
	if g.Pool == "" {
		g.Pool = slug(g.host(), "-")
		if len(g.Pool) < 4 || strings.HasPrefix(g.Pool, "gcp-") {
			g.Pool = "oidc-" + g.Pool
		}
		g.Pool = shorten(g.Pool, 32)
	}
	if g.Provider == "" {
		g.Provider = "kubernetes"
	}
	if g.KeysFrom == "" {
		g.KeysFrom = KeysDiscovery
		if g.Private() {
			g.KeysFrom = KeysCopy
		}
	}
	switch {
	case g.KeysFrom != KeysDiscovery && g.KeysFrom != KeysCopy:
		return hint.Errorf("for Google Cloud, {option.keys} takes discovery or copy", "unknown source of keys %q", g.KeysFrom)
	case g.KeysFrom == KeysDiscovery && g.Private():
		return hint.Errorf("set {option.keys} to copy", "Google Cloud cannot ask the issuer: it trusts no private CA")
	case len(g.Subject()) > maxGoogleSubject:
		return hint.Errorf("choose a shorter {option.namespace} or {option.serviceAccount}",
			"the subject %s has %d bytes: Google Cloud accepts at most %d", g.Subject(), len(g.Subject()), maxGoogleSubject)
	case strings.HasPrefix(g.Pool, "gcp-") || strings.HasPrefix(g.Provider, "gcp-"):
		return hint.Errorf("choose another {option.pool} or {option.provider}",
			"names of pools and providers must not start with gcp-, which is reserved for Google")
	case len(g.Roles) > 0 && g.GoogleServiceAccount != "":
		return hint.Errorf("set either {option.role} or {option.googleServiceAccount}",
			"roles are for the ServiceAccount itself; it has the roles of a Google service account if it acts as one")
	case format == "pod" && g.ProjectNumber == "":
		return hint.Errorf("set {option.projectNumber}; "+
			"`gcloud projects describe PROJECT --format='value(projectNumber)'` prints it",
			"the project number is missing: the Pod's credentials need it to name the provider")
	}
	for _, role := range g.Roles {
		if err := match("role", role, gcpRole, "a role like roles/storage.objectViewer"); err != nil {
			return err
		}
	}
	const pool = "4 to 32 lower case letters, digits and hyphens"
	return errors.Join(
		g.needHTTPS("Google Cloud"),
		match("project", g.Project, gcpProject, "the ID of a project, not its name"),
		match("projectNumber", g.ProjectNumber, gcpNumber, "digits only"),
		match("pool", g.Pool, gcpPool, pool), match("provider", g.Provider, gcpPool, pool),
		match("googleServiceAccount", g.GoogleServiceAccount, gcpServiceAccount,
			"an address like NAME@PROJECT.iam.gserviceaccount.com"))
}

func (g *GCP) ready(format string) error {
	switch {
	case !g.Copied() || format == "pod":
	case len(g.Keys) == 0:
		return errNoKeys
	case len(g.usable()) == 0:
		return errors.New("no key to copy: Google Cloud accepts only RS256 and ES256")
	}
	return nil
}

// errNoKeys refuses to print a copy of nothing.
var errNoKeys = hint.Errorf("the issuer must be reachable, with a certificate of a known CA",
	"no keys to copy: no key of the issuer is known")

// Copied reports whether Google has a copy of the keys.
func (g *GCP) Copied() bool { return g.KeysFrom == KeysCopy }

// Copy returns the name of that copy.
func (g *GCP) Copy() string { return "gcp-" + g.Pool }

// OwnAudience reports whether the audience differs from Google's default for a
// provider.
func (g *GCP) OwnAudience() bool { return g.Audience != "" }

// ProviderName returns the full name of the provider.
func (g *GCP) ProviderName() string {
	return "//iam.googleapis.com/projects/" + g.ProjectNumber + "/locations/global/workloadIdentityPools/" + g.Pool +
		"/providers/" + g.Provider
}

// TokenAudience is what the Pod's tokens are for.
func (g *GCP) TokenAudience() string {
	if g.OwnAudience() {
		return g.Audience
	}
	return "https:" + g.ProviderName()
}

// A Mapping says which claim an attribute of a principal comes from.
type Mapping struct{ Attribute, Claim string }

// Mappings returns the attributes, which conditions of policies may use. All
// tokens have these claims; tokens without a Pod lack the Pod's.
func (g *GCP) Mappings() []Mapping {
	return []Mapping{
		{"google.subject", "assertion.sub"},
		{"attribute.namespace", "assertion['kubernetes.io']['namespace']"},
		{"attribute.service_account_name", "assertion['kubernetes.io']['serviceaccount']['name']"},
	}
}

// AttributeMapping returns the mappings for gcloud.
func (g *GCP) AttributeMapping() string {
	var pairs []string
	for _, m := range g.Mappings() {
		// In a shell, double quotes inside single quotes are easier to read.
		pairs = append(pairs, m.Attribute+"="+strings.ReplaceAll(m.Claim, "'", `"`))
	}
	return strings.Join(pairs, ",")
}

// usable returns the keys that Google accepts.
func (g *GCP) usable() []jwks.PublicKey {
	return slices.DeleteFunc(slices.Clone(g.Keys), func(k jwks.PublicKey) bool {
		return k.Algorithm() != jose.RS256 && k.Algorithm() != jose.ES256
	})
}

// KeySet returns the key set to upload, with only the members that Google
// accepts.
func (g *GCP) KeySet() (json.RawMessage, error) { return jwks.Marshal(g.usable()) }

// KIDs returns the kids of the key set.
func (g *GCP) KIDs() []string { return kids(g.usable()) }

// ShowCopy returns the command that shows Google's copy.
func (g *GCP) ShowCopy() string {
	project := ""
	if g.Project != "" {
		project = " --project=" + g.Project
	}
	return "gcloud iam workload-identity-pools providers describe " + g.Provider + project +
		" --location=global --workload-identity-pool=" + g.Pool + " --format=json"
}

// KeyList returns the keys of the key set.
func (g *GCP) KeyList() (json.RawMessage, error) {
	data, err := g.KeySet()
	if err != nil {
		return nil, err
	}
	var set struct{ Keys json.RawMessage }
	err = json.Unmarshal(data, &set)
	return set.Keys, err
}

// Credentials returns the file with which Google's libraries exchange the token.
func (g *GCP) Credentials() any {
	type format struct {
		Type string `json:"type"`
	}
	type source struct {
		File   string `json:"file"`
		Format format `json:"format"`
	}
	c := struct {
		UniverseDomain   string `json:"universe_domain"`
		Type             string `json:"type"`
		Audience         string `json:"audience"`
		SubjectTokenType string `json:"subject_token_type"`
		TokenURL         string `json:"token_url"`
		CredentialSource source `json:"credential_source"`
		Impersonation    string `json:"service_account_impersonation_url,omitempty"`
	}{
		"googleapis.com", "external_account", g.ProviderName(), "urn:ietf:params:oauth:token-type:jwt",
		"https://sts.googleapis.com/v1/token", source{"/var/run/secrets/gcp/token", format{"text"}}, "",
	}
	if g.GoogleServiceAccount != "" {
		c.Impersonation = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" +
			g.GoogleServiceAccount + ":generateAccessToken"
	}
	return c
}
