package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/jwks"
)

// Where a relying party has the keys from.
const (
	KeysDiscovery = "discovery" // it asks the issuer
	KeysJWKS      = "jwks"      // it asks the jwks_uri
	KeysCopy      = "copy"      // it holds a copy of them, and asks nobody
)

// GCP is trust of Google Cloud: a workload identity pool with a provider, and
// what the ServiceAccount may do there.
type GCP struct {
	Facts
	Project       string // ID; the commands take the one that gcloud is set to
	ProjectNumber string
	// Pool is one for each issuer by default: a principal is a subject of a
	// pool, whichever of its providers has vouched for it.
	Pool, Provider string
	// GoogleServiceAccount is the e-mail address of the one to act as. Without,
	// the ServiceAccount itself is the principal.
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
		return fmt.Errorf("--keys %q: Google Cloud takes %s or %s", g.KeysFrom, KeysDiscovery, KeysCopy)
	case g.KeysFrom == KeysDiscovery && g.Private():
		return errors.New("--keys discovery: Google Cloud cannot know a private CA (hint: use --keys copy)")
	case len(g.Subject()) > maxGoogleSubject:
		return fmt.Errorf("the subject %s has %d bytes: Google Cloud takes at most %d (hint: a shorter --namespace or --service-account)", g.Subject(), len(g.Subject()), maxGoogleSubject)
	case strings.HasPrefix(g.Pool, "gcp-") || strings.HasPrefix(g.Provider, "gcp-"):
		return errors.New("--pool and --provider must not begin with gcp-, which is Google's")
	case len(g.Roles) > 0 && g.GoogleServiceAccount != "":
		return errors.New("--role is for the ServiceAccount itself: with --google-service-account, it is that one which has roles")
	case format == "pod" && g.ProjectNumber == "":
		return errors.New("--project-number is required for a Pod, whose credentials name the provider with it (hint: `gcloud projects describe PROJECT --format='value(projectNumber)'` prints it)")
	}
	for _, role := range g.Roles {
		if err := match("role", role, gcpRole, "it looks like roles/storage.objectViewer"); err != nil {
			return err
		}
	}
	const pool = "4 to 32 small letters, digits and hyphens"
	return errors.Join(
		g.needHTTPS("Google Cloud"),
		match("project", g.Project, gcpProject, "it is the ID of a project, not its name"),
		match("project-number", g.ProjectNumber, gcpNumber, "digits only"),
		match("pool", g.Pool, gcpPool, pool), match("provider", g.Provider, gcpPool, pool),
		match("google-service-account", g.GoogleServiceAccount, gcpServiceAccount, "it looks like NAME@PROJECT.iam.gserviceaccount.com"))
}

func (g *GCP) ready(format string) error {
	switch {
	case !g.Copied() || format == "pod":
	case len(g.Keys) == 0:
		return errors.New("--keys copy: no key of the issuer is known")
	case len(g.usable()) == 0:
		return errors.New("there is no key to copy: Google Cloud takes RS256 and ES256 only")
	}
	return nil
}

// Copied reports whether Google holds a copy of the keys.
func (g *GCP) Copied() bool { return g.KeysFrom == KeysCopy }

// Copy is the name of that copy.
func (g *GCP) Copy() string { return "gcp-" + g.Pool }

// OwnAudience reports whether the audience is not the one that Google takes
// for a provider by itself.
func (g *GCP) OwnAudience() bool { return g.Audience != "" }

// ProviderName is the full name of the provider.
func (g *GCP) ProviderName() string {
	return "//iam.googleapis.com/projects/" + g.ProjectNumber + "/locations/global/workloadIdentityPools/" + g.Pool + "/providers/" + g.Provider
}

// TokenAudience is what the Pod's tokens are for.
func (g *GCP) TokenAudience() string {
	if g.OwnAudience() {
		return g.Audience
	}
	return "https:" + g.ProviderName()
}

// A Mapping is where an attribute of a principal comes from.
type Mapping struct{ Attribute, Claim string }

// Mappings are the attributes, which conditions of policies may ask for. All
// tokens have these claims; that of the Pod misses where there is none.
func (g *GCP) Mappings() []Mapping {
	return []Mapping{
		{"google.subject", "assertion.sub"},
		{"attribute.namespace", "assertion['kubernetes.io']['namespace']"},
		{"attribute.service_account_name", "assertion['kubernetes.io']['serviceaccount']['name']"},
	}
}

// AttributeMapping is the mappings for gcloud.
func (g *GCP) AttributeMapping() string {
	var pairs []string
	for _, m := range g.Mappings() {
		// In a shell, double quotes within single ones read better.
		pairs = append(pairs, m.Attribute+"="+strings.ReplaceAll(m.Claim, "'", `"`))
	}
	return strings.Join(pairs, ",")
}

// usable are the keys that Google takes.
func (g *GCP) usable() []jwks.PublicKey {
	return slices.DeleteFunc(slices.Clone(g.Keys), func(k jwks.PublicKey) bool {
		return k.Algorithm() != jose.RS256 && k.Algorithm() != jose.ES256
	})
}

// KeySet is the key set to upload: it has none but the members that Google
// takes.
func (g *GCP) KeySet() (json.RawMessage, error) { return jwks.Marshal(g.usable()) }

// KIDs name the keys of the key set.
func (g *GCP) KIDs() []string { return kids(g.usable()) }

// ShowCopy is the command that shows what Google holds.
func (g *GCP) ShowCopy() string {
	project := ""
	if g.Project != "" {
		project = " --project=" + g.Project
	}
	return "gcloud iam workload-identity-pools providers describe " + g.Provider + project +
		" --location=global --workload-identity-pool=" + g.Pool + " --format=json"
}

// KeyList is the keys of the key set.
func (g *GCP) KeyList() (json.RawMessage, error) {
	data, err := g.KeySet()
	if err != nil {
		return nil, err
	}
	var set struct{ Keys json.RawMessage }
	err = json.Unmarshal(data, &set)
	return set.Keys, err
}

// Credentials is the file that Google's libraries exchange the token with.
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
		c.Impersonation = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + g.GoogleServiceAccount + ":generateAccessToken"
	}
	return c
}
