package trust

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"oidc-provider/internal/hint"
)

// Kubernetes is trust of another cluster: for its API server, the ServiceAccounts
// are users with a prefix, to whom RBAC grants permissions.
type Kubernetes struct {
	Facts
	// Only restricts access to the one ServiceAccount. Otherwise every
	// ServiceAccount of the issuer has access.
	Only bool
	// Prefix of the names of these users; default the issuer and a #.
	Prefix string
	// DiscoveryURL is where that API server fetches the discovery document, if
	// not at the issuer.
	DiscoveryURL string
	// MaxTokenLifetime is the longest lifetime of a token; default 24 hours.
	MaxTokenLifetime time.Duration
	// Server is the URL of that API server, and ServerCA the PEM of its CA, for
	// the Pod.
	Server   string
	ServerCA []byte
}

var userPrefix = regexp.MustCompile(`^[!-~]{1,512}$`)

// Target implements [Setup].
func (k *Kubernetes) Target() Target {
	return Target{"kubernetes", []string{"yaml", "pod"}, ""}
}

func (k *Kubernetes) fill(format string) (err error) {
	if k.Prefix == "" {
		k.Prefix = k.Issuer.String() + "#"
	}
	if k.MaxTokenLifetime == 0 {
		k.MaxTokenLifetime = 24 * time.Hour
	}
	switch {
	case strings.HasPrefix(strings.ToLower(k.Prefix), "system:"):
		return hint.Errorf("choose another {option.usernamePrefix}",
			"prefix %q: names that start with system: are reserved for the cluster itself", k.Prefix)
	case k.Prefix == "-":
		return hint.Errorf("set {option.usernamePrefix} to a prefix", "without a prefix, a ServiceAccount of the issuer "+
			"would be taken for one of the cluster itself with the same name")
	case k.MaxTokenLifetime < 10*time.Minute:
		return hint.Errorf("set {option.maxTokenLifetime} to 10m or more",
			"the longest lifetime of a token is %v, but every ServiceAccount token lives at least 10m", k.MaxTokenLifetime)
	case format == "pod" && k.Server == "":
		return hint.Errorf("set {option.server}", "the URL of the API server is missing: the Pod connects to it")
	}
	if k.ServerCA, err = certificates("serverCaFile", k.ServerCA); err != nil {
		return err
	}
	return errors.Join(
		k.needAudience(), k.needHTTPS("kube-apiserver"), k.checkDiscoveryURL(),
		match("usernamePrefix", k.Prefix, userPrefix, "at most 512 ASCII characters, no white space"),
		match("server", k.Server, httpAddress, "a URL like https://api.example.com:6443"))
}

func (k *Kubernetes) checkDiscoveryURL() error {
	if k.DiscoveryURL == "" {
		return nil
	}
	same := strings.TrimRight(k.DiscoveryURL, "/") == strings.TrimRight(k.Issuer.String(), "/")
	u, err := url.Parse(k.DiscoveryURL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		!userPrefix.MatchString(k.DiscoveryURL) || same {
		return hint.Errorf("{option.discoveryUrl} takes the https URL of the discovery document, like "+
			k.Issuer.DiscoveryURL(), "discovery URL %q is not valid", k.DiscoveryURL)
	}
	return nil
}

// User returns the name of the ServiceAccount in that cluster.
func (k *Kubernetes) User() string { return k.Prefix + k.Subject() }

// SubjectRule returns the rule that only the ServiceAccount satisfies. Its names
// have no quotation marks.
func (k *Kubernetes) SubjectRule() string { return "claims.sub == '" + k.Subject() + "'" }

// LifetimeRule returns the rule that bounds the lifetime of tokens.
func (k *Kubernetes) LifetimeRule() string {
	return fmt.Sprintf("claims.exp - claims.iat <= %d", int(k.MaxTokenLifetime/time.Second))
}

// LifetimeMessage returns the error message for longer lifetimes.
func (k *Kubernetes) LifetimeMessage() string {
	return fmt.Sprintf("the token lives longer than %d seconds", int(k.MaxTokenLifetime/time.Second))
}

// ServerCAData returns the CA as in a kubeconfig.
func (k *Kubernetes) ServerCAData() string { return base64.StdEncoding.EncodeToString(k.ServerCA) }
