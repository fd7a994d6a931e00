package check

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"oidc-provider/internal/hint"
)

// Options say what to ask, and how. Only Issuer must be set.
type Options struct {
	// Issuer is the URL to check, exactly as in the tokens.
	Issuer string

	// Parties are the names of the relying parties to judge for. Default
	// [DefaultParties].
	Parties []string

	// Roots are the CAs to verify certificates with. Default the system's,
	// which are taken for public CAs. Roots that are set are taken for a
	// private CA, which the public clouds do not trust.
	Roots *x509.CertPool

	// ConnectTo maps a "host:port" to the "ip:port" addresses to connect to
	// instead of asking DNS. Several are replicas: all of them are asked.
	ConnectTo map[string][]string

	// AllowPrivate connects to the host that a document names also if it has an
	// address of this machine or of a private network. The host of the issuer
	// and ConnectTo may always have one.
	AllowPrivate bool

	// Timeout of a request, from the connection to the last byte. Default 5s:
	// AWS STS waits no longer.
	Timeout time.Duration

	// Tries is how often each document is requested, at most 100 times. All
	// answers are kept. Default 10.
	Tries int

	// PublishAhead is how long the issuer publishes a key before it signs. No
	// cache may hold the documents for longer. Default 24h.
	PublishAhead time.Duration

	// Token to judge as well, and the audience that it should be for. Both
	// may be empty.
	Token, Audience string

	// Signer is what the external JWT signer of the API server answered, to
	// be compared with what is published. May be nil.
	Signer *Signer
}

// DefaultParties are the relying parties that every issuer of ServiceAccount
// tokens should suit.
var DefaultParties = []string{"aws", "gcp", "azure", "vault", "kubernetes"}

// withDefaults fills in what is not set, and rejects invalid options.
func (o Options) withDefaults() (Options, error) {
	if o.Issuer == "" {
		return o, errors.New("no issuer to check")
	}
	if len(o.Parties) == 0 {
		o.Parties = DefaultParties
	}
	for _, name := range o.Parties {
		if _, ok := PartyByName(name); !ok {
			return o, hint.Errorf("choose from "+strings.Join(PartyNames(), ", "), "unknown relying party %q", name)
		}
	}
	if o.Timeout < 0 || o.Tries < 0 || o.PublishAhead < 0 {
		return o, errors.New("timeout, tries and publish-ahead must not be negative")
	}
	if o.Tries > maxTries {
		return o, fmt.Errorf("at most %d tries", maxTries)
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Tries == 0 {
		o.Tries = 10
	}
	if o.PublishAhead == 0 {
		o.PublishAhead = 24 * time.Hour
	}
	return o, nil
}
