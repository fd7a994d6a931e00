package check

import "time"

// A Party is a kind of relying party, with its limits. A zero limit does not
// exist or is not documented.
type Party struct {
	Name  string // in options and results
	Title string // in texts

	// Algorithms of the keys that it accepts, none for every advertised one.
	Algorithms []string
	// Cache is how long it keeps the keys regardless of Cache-Control, and
	// Refetch whether an unknown kid makes it ask earlier.
	Cache   time.Duration
	Refetch bool

	// NoPort and MaxIssuer, in bytes, limit the issuer URL.
	NoPort    bool
	MaxIssuer int
	// HTTPS says that it accepts no other scheme, not even on loopback hosts.
	HTTPS bool
	// Internet says that it asks from the public internet, PublicCA that it
	// trusts no private CA.
	Internet bool
	PublicCA bool

	// MaxKeys, MaxRSAKeys and MaxBytes limit the key set, and Timeout the
	// time that it waits for it.
	MaxKeys    int
	MaxRSAKeys int
	MaxBytes   int
	Timeout    time.Duration

	// Audience is the usual one of its tokens.
	Audience string
	// MaxSubject, in bytes, MaxAudiences, and MaxAudience, in bytes, limit
	// the claims; MaxAge limits the time since iat. NoSpace says that it
	// refuses white space in the subject, AuthorizedParty that a token with
	// several audiences needs an azp.
	MaxSubject      int
	NoSpace         bool
	MaxAudiences    int
	MaxAudience     int
	MaxAge          time.Duration
	AuthorizedParty bool
}

var rsaOnly = []string{"RS256", "RS384", "RS512"}

// Parties are the relying parties whose rules are known, from their sources
// and documentation.
var Parties = []Party{
	{Name: "aws", Title: "AWS STS", Algorithms: append([]string{"ES256", "ES384", "ES512"}, rsaOnly...),
		HTTPS: true, NoPort: true, MaxIssuer: 255, Internet: true, MaxRSAKeys: 100, Timeout: 5 * time.Second,
		Audience: "sts.amazonaws.com", AuthorizedParty: true},
	{Name: "gcp", Title: "Google Cloud", Algorithms: []string{"RS256", "ES256"},
		HTTPS: true, Internet: true, PublicCA: true,
		MaxSubject: 127, MaxAudiences: 10, MaxAudience: 256, MaxAge: 24 * time.Hour},
	{Name: "azure", Title: "Entra ID", Algorithms: []string{"RS256"},
		HTTPS: true, MaxIssuer: 600, Internet: true, PublicCA: true, MaxKeys: 100,
		Audience: "api://AzureADTokenExchange", MaxSubject: 600, NoSpace: true},
	{Name: "vault", Title: "Vault", Refetch: true,
		Algorithms: append([]string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}, rsaOnly...)},
	// With an AuthenticationConfiguration. The older flags accept only RS256
	// unless they name more.
	{Name: "kubernetes", Title: "kube-apiserver", HTTPS: true,
		Algorithms: append([]string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}, rsaOnly...)},
	{Name: "go-oidc", Title: "go-oidc", Refetch: true},
	{Name: "envoy", Title: "Envoy jwt_authn", Cache: 10 * time.Minute},
	{Name: "istio", Title: "Istio", Cache: 20 * time.Minute},
	{Name: "nginx", Title: "nginx OIDC reference", Cache: 12 * time.Hour, MaxBytes: 32 << 10},
	{Name: "lua-resty-openidc", Title: "lua-resty-openidc", Algorithms: rsaOnly, Cache: 24 * time.Hour, Refetch: true},
	{Name: "spring", Title: "Spring Security, older Nimbus", Algorithms: []string{"RS256"},
		Cache: 5 * time.Minute, Refetch: true, MaxBytes: 51200, Timeout: 500 * time.Millisecond},
	{Name: "jose", Title: "jose for Node.js", Cache: 10 * time.Minute, Refetch: true, Timeout: 5 * time.Second},
	{Name: "jwks-rsa", Title: "jwks-rsa for Node.js", Cache: 10 * time.Minute, Refetch: true},
	{Name: "pyjwt", Title: "PyJWT", Cache: 5 * time.Minute, Refetch: true},
	{Name: "dotnet", Title: ".NET ConfigurationManager", Cache: 12 * time.Hour, Refetch: true, HTTPS: true},
	{Name: "jwx", Title: "jwx for Go", Cache: 15 * time.Minute},
	{Name: "keyfunc", Title: "keyfunc for Go", Cache: time.Hour, Refetch: true},
}

// PartyByName returns the relying party with a name.
func PartyByName(name string) (Party, bool) {
	for _, p := range Parties {
		if p.Name == name {
			return p, true
		}
	}
	return Party{}, false
}

// PartyNames returns the names of all [Parties].
func PartyNames() []string {
	names := make([]string, len(Parties))
	for i, p := range Parties {
		names[i] = p.Name
	}
	return names
}

// titles returns the names and titles of the relying parties that have a rule.
func titles(rule func(Party) bool) (names, titles []string) {
	for _, p := range Parties {
		if rule(p) {
			names, titles = append(names, p.Name), append(titles, p.Title)
		}
	}
	return names, titles
}
