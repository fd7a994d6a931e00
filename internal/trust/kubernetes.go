package trust

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Kubernetes is trust of another cluster: its API server lets the
// ServiceAccounts in as users with a prefix, who may do what RBAC gives them.
type Kubernetes struct {
	Facts
	// Only says that nobody but the ServiceAccount is let in. Otherwise each one
	// of the issuer is.
	Only bool
	// Prefix begins the names of these users; default the issuer and a #.
	Prefix string
	// DiscoveryURL is where that API server reaches the issuer's configuration,
	// if not at the issuer.
	DiscoveryURL string
	// MaxTokenLifetime is the longest that a token may live; default 24 hours.
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
		return fmt.Errorf("--username-prefix %q: names that begin with system: are the cluster's own", k.Prefix)
	case k.Prefix == "-":
		return errors.New("--username-prefix -: without a prefix, a ServiceAccount of the issuer would be taken for the cluster's own of the same name")
	case k.MaxTokenLifetime < 10*time.Minute:
		return fmt.Errorf("--max-token-lifetime %v: no ServiceAccount token lives less than 10m", k.MaxTokenLifetime)
	case format == "pod" && k.Server == "":
		return errors.New("--server is required for a Pod: the URL of the API server that is to trust the issuer")
	}
	if k.ServerCA, err = certificates("server-ca-file", k.ServerCA); err != nil {
		return err
	}
	return errors.Join(
		k.needAudience(), k.needHTTPS("kube-apiserver"), k.checkDiscoveryURL(),
		match("username-prefix", k.Prefix, userPrefix, "at most 512 characters of ASCII, no white space"),
		match("server", k.Server, httpAddress, "it looks like https://api.example.com:6443"))
}

func (k *Kubernetes) checkDiscoveryURL() error {
	if k.DiscoveryURL == "" {
		return nil
	}
	u, err := url.Parse(k.DiscoveryURL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		!userPrefix.MatchString(k.DiscoveryURL) || strings.TrimRight(k.DiscoveryURL, "/") == strings.TrimRight(k.Issuer.String(), "/") {
		return fmt.Errorf("--discovery-url %q cannot be right (hint: it is the https URL of the configuration itself, like %s)", k.DiscoveryURL, k.Issuer.DiscoveryURL())
	}
	return nil
}

// User is who the ServiceAccount is in that cluster.
func (k *Kubernetes) User() string { return k.Prefix + k.Subject() }

// SubjectRule is for the ServiceAccount alone. Its names have no quotation marks.
func (k *Kubernetes) SubjectRule() string { return "claims.sub == '" + k.Subject() + "'" }

// LifetimeRule bounds the life of tokens.
func (k *Kubernetes) LifetimeRule() string {
	return fmt.Sprintf("claims.exp - claims.iat <= %d", int(k.MaxTokenLifetime/time.Second))
}

// LifetimeMessage is what is said to those that live longer.
func (k *Kubernetes) LifetimeMessage() string {
	return fmt.Sprintf("the token lives longer than %d seconds", int(k.MaxTokenLifetime/time.Second))
}

// ServerCAData is the CA as a kubeconfig has it.
func (k *Kubernetes) ServerCAData() string { return base64.StdEncoding.EncodeToString(k.ServerCA) }
