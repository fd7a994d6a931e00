// Package config is the configuration file of `oidc-provider serve`. [Load]
// reads one; [Config] is the manual.
package config

import (
	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/kube"
	"oidc-provider/internal/signer"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// Duration is a time as text, like "24h" or "90s".
type Duration = rotation.Duration

// A Config is what one process serves. File names in it are relative to the
// directory of the file that contains them.
type Config struct {
	// Listen is the address for the documents of all issuers. Default
	// 127.0.0.1:8080.
	Listen string `yaml:"listen,omitempty"`

	// AdminListen is the address for /livez, /readyz and /metrics. Default
	// 127.0.0.1:8081.
	AdminListen string `yaml:"adminListen,omitempty"`

	// TLS makes Listen serve https. Without it a proxy in front must do so.
	TLS *TLS `yaml:"tls,omitempty"`

	// MaxConnections is how many connections Listen has open at a time. Beyond
	// that, the one that has been idle or slow for the longest is closed for a
	// new one. Default 4096; less, so that connections take at most half of the
	// file descriptors and a quarter of the memory that the process may use.
	MaxConnections int `yaml:"maxConnections,omitempty"`

	// MaxConnectionsPerAddress is how many of them one client address may have.
	// Default three quarters, which leaves room for others, and is enough for a
	// load balancer that is the only client.
	MaxConnectionsPerAddress int `yaml:"maxConnectionsPerAddress,omitempty"`

	// AnyHost finds issuers by their path alone if no issuer has the host of
	// the request: for a proxy that does not pass the host on. Without it, that
	// applies to requests to localhost or to an IP address only: a client that
	// requests an issuer which is not served here, or not any more, must not
	// get the keys of another.
	AnyHost bool `yaml:"anyHost,omitempty"`

	// Readiness says when /readyz succeeds in a process with several issuers:
	// "any" (default) while at least one of them can be served, so that a
	// broken one takes no other out of a load balancer, or "all". With managed
	// issuers on several servers "all" is the safe choice: it takes a server
	// out of the load balancer if it has lost its connection to a ring, or if a
	// file of IssuersDir was never valid. /readyz?issuer=URL checks one issuer.
	Readiness string `yaml:"readiness,omitempty"`

	// JWKSMaxAge and DiscoveryMaxAge are how long relying parties may cache the
	// key sets and the discovery documents, in whole seconds. Defaults 5m and
	// 1h. Issuers may have their own. For a managed issuer they are never
	// longer than its publishAhead allows.
	JWKSMaxAge      Duration `yaml:"jwksMaxAge,omitempty"`
	DiscoveryMaxAge Duration `yaml:"discoveryMaxAge,omitempty"`

	// ShutdownDelay is how long to keep serving after /readyz fails at the end,
	// so that load balancers notice. Default 3s.
	ShutdownDelay Duration `yaml:"shutdownDelay,omitempty"`

	// StateDir keeps the last good key sets of apiserver and url issuers, so
	// that a restart during an outage still publishes them. Default
	// oidc-provider-state.
	StateDir string `yaml:"stateDir,omitempty"`

	// Issuers are served from the start. A change of the file, or SIGHUP,
	// adds, changes and removes them while the process runs; all other fields
	// need a restart.
	Issuers []Issuer `yaml:"issuers,omitempty"`

	// IssuersDir is a directory of more issuers: each file that ends in .yaml,
	// .yml or .json has one of the form of an entry in Issuers, or several as
	// YAML documents. It is watched: files may come and go while the process
	// runs. The last one goes only with SIGHUP, since a directory that is
	// suddenly empty is usually one that is not mounted. A file has at most
	// 256 KiB, 64 documents and 2800 values.
	IssuersDir string `yaml:"issuersDir,omitempty"`

	// IssuersDirAllow says what the files of IssuersDir may contain. By default
	// they may publish public keys, from files in IssuersDir itself, from API
	// servers and from URLs.
	IssuersDirAllow DirAllow `yaml:"issuersDirAllow,omitempty"`
}

// A DirAllow extends or restricts what the files of a directory may contain: it is
// for a directory that others than the authors of the main file can write to.
type DirAllow struct {
	// IssuerPrefix is a URL that every issuer must be, or be below: with
	// https://oidc.example.com/a, https://oidc.example.com/a/b is allowed, and
	// https://oidc.example.com/ab is not. Default any issuer.
	IssuerPrefix string `yaml:"issuerPrefix,omitempty"`

	// Roots are directories, beside IssuersDir, that file names must lead to
	// after links are followed, those in a kubeconfig included.
	Roots []string `yaml:"roots,omitempty"`

	// Managed allows managed issuers, which name a store. A store in a
	// directory, and every other file, must be in one of Roots.
	Managed bool `yaml:"managed,omitempty"`

	// SignerSockets allows managed issuers to sign, on abstract sockets and on
	// sockets in Roots.
	SignerSockets bool `yaml:"signerSockets,omitempty"`

	// Programs allows a kubeconfig with exec, which runs any program as this
	// process, or with an auth-provider, which sends credentials to any server.
	Programs bool `yaml:"programs,omitempty"`
}

// TLS is where the certificate for Listen comes from: files or an ACME server.
type TLS struct {
	// CertFile and KeyFile are PEM files with the certificate chain and its
	// key. They are read again when they change.
	CertFile string `yaml:"certFile,omitempty"`
	KeyFile  string `yaml:"keyFile,omitempty"`

	// ACME obtains a certificate for the host of every issuer, and renews it.
	ACME *ACME `yaml:"acme,omitempty"`
}

// ACME is an account with a certificate authority that speaks RFC 8555.
type ACME struct {
	// Directory is the URL of the authority. Default Let's Encrypt; using it
	// means agreeing to its terms of service.
	Directory string `yaml:"directory,omitempty"`

	// Email is an address that the authority may write to.
	Email string `yaml:"email,omitempty"`

	// Storage is a directory for the account, the keys and the certificates.
	// Servers that share it share certificates, and answer each other's
	// challenges. Default oidc-provider-acme.
	Storage string `yaml:"storage,omitempty"`

	// CAFile is a PEM file with the CA of the authority's own https address.
	// Default the system's.
	CAFile string `yaml:"caFile,omitempty"`

	// Challenges are how to prove that the hosts belong to this server:
	// tls-alpn-01, which the authority sends to port 443, where Listen must
	// answer, or http-01, to port 80, where HTTPListen must. Default
	// tls-alpn-01.
	Challenges []string `yaml:"challenges,omitempty"`

	// HTTPListen is the address that answers http-01, and nothing else. Default
	// ":80" if http-01 is one of the challenges.
	HTTPListen string `yaml:"httpListen,omitempty"`

	// CheckInterval is how often certificates are checked: they are renewed in
	// the last third of their life. Default 10m. Set less for an authority
	// whose certificates live for an hour.
	CheckInterval Duration `yaml:"checkInterval,omitempty"`
}

// An Issuer is one issuer, with exactly one source of keys.
type Issuer struct {
	// Issuer is the URL in the iss claim. Its documents are served under its
	// path, on its host: https://oidc.example.com/clusters/a has its own,
	// beside those of thousands of others.
	Issuer string `yaml:"issuer"`

	// JWKSMaxAge and DiscoveryMaxAge override those of the file for this
	// issuer.
	JWKSMaxAge      Duration `yaml:"jwksMaxAge,omitempty"`
	DiscoveryMaxAge Duration `yaml:"discoveryMaxAge,omitempty"`

	// Managed keys rotate, and may sign for kube-apiserver.
	Managed *Managed `yaml:"managed,omitempty"`

	// APIServer mirrors the keys of a kube-apiserver that signs itself.
	APIServer *APIServer `yaml:"apiserver,omitempty"`

	// Files publishes public keys in files.
	Files *Files `yaml:"files,omitempty"`

	// URL mirrors the key set of another issuer.
	URL *URL `yaml:"url,omitempty"`
}

// Managed is a ring of keys in a store, which this process rotates. The flags
// of `serve` have the same names.
type Managed struct {
	// The store, and what opens the keys in it.
	store.Config `yaml:",inline"`

	// Create makes new keys if the store is empty. Without it an empty store is
	// an error: a directory that is not mounted must not turn into new keys.
	Create bool `yaml:"create,omitempty"`

	// PublishOnly publishes the documents, and neither signs nor rotates.
	PublishOnly bool `yaml:"publishOnly,omitempty"`

	// SignerSocket is the Unix socket to sign for a kube-apiserver on: a path,
	// or @name for an abstract socket.
	SignerSocket string `yaml:"signerSocket,omitempty"`

	// SignerUIDs are the numbers of the users, beside root and the one that this
	// process runs as, whose processes may connect to the socket. Needs Linux.
	SignerUIDs []uint `yaml:"signerUIDs,omitempty"`

	// SignerSocketMode is the mode of the socket file, in octal. Default 0600:
	// other users of SignerUIDs need 0660 and SignerSocketGroup, or 0666.
	SignerSocketMode string `yaml:"signerSocketMode,omitempty"`

	// SignerSocketGroup is the group of the socket file, a name or a number.
	// Default that of other new files in its directory.
	SignerSocketGroup string `yaml:"signerSocketGroup,omitempty"`

	// RefreshHint is how often that kube-apiserver should fetch the keys, in
	// whole seconds. Default 1m.
	RefreshHint Duration `yaml:"refreshHint,omitempty"`

	// Policy is written into the ring at the start and when it changes. A field
	// that is not set keeps its value in the ring.
	Policy Policy `yaml:"policy,omitempty"`

	// Witnesses are URLs of key sets, and WitnessCAFile is a PEM file with
	// their CA. While the ring lacks one of their keys it may be an old backup:
	// the server does not change it, unless RollbackState shows that it is the
	// newest. Default the issuer's own key set, if it is https; ["none"] asks
	// no server.
	Witnesses     []string `yaml:"witnesses,omitempty"`
	WitnessCAFile string   `yaml:"witnessCAFile,omitempty"`

	// RollbackState is a directory for what this server has seen of the ring.
	// It must contain nothing else. After a restart, the server rejects a ring
	// that is older.
	RollbackState string `yaml:"rollbackState,omitempty"`

	// TrustClock says that the clock of this machine is looked after in a way
	// that this program cannot see. Otherwise a server rotates only while its
	// clock is confirmed: by the kernel (NTP), by the answers of the witnesses
	// that are set, or by the API server that stores the ring.
	TrustClock bool `yaml:"trustClock,omitempty"`
}

// SignerAccess returns who may use the signer socket.
func (m *Managed) SignerAccess() signer.Access {
	return signer.Access{Mode: m.SignerSocketMode, Group: m.SignerSocketGroup, UIDs: m.SignerUIDs}
}

// A Policy is the policy of a ring; see [rotation.Policy].
type Policy struct {
	// Schedule says when a new key becomes active: "@every 720h", "@weekly", or
	// minute, hour, day, month and weekday in UTC. Default "@every 720h".
	Schedule string `yaml:"schedule,omitempty"`

	// Algorithm of new keys: RS256 (default), ES256, ES384 or ES512.
	Algorithm string `yaml:"algorithm,omitempty"`

	// RSABits is the size of new RS256 keys: 2048 (default), 3072 or 4096.
	RSABits int `yaml:"rsaBits,omitempty"`

	// PublishAhead is how long a key is published before it signs. Default
	// 24h.
	PublishAhead Duration `yaml:"publishAhead,omitempty"`

	// MaxTokenLifetime is the longest lifetime of a signed token. Retired keys
	// stay published for as long. Default 24h.
	MaxTokenLifetime Duration `yaml:"maxTokenLifetime,omitempty"`

	// ClockSkew is the largest difference between the clocks of two machines.
	// Default 10m.
	ClockSkew Duration `yaml:"clockSkew,omitempty"`
}

// Rotation returns p in the form of package rotation.
func (p Policy) Rotation() rotation.Policy {
	return rotation.Policy{
		Schedule: p.Schedule, Algorithm: jose.SignatureAlgorithm(p.Algorithm), RSABits: p.RSABits,
		PublishAhead: p.PublishAhead, MaxTokenLifetime: p.MaxTokenLifetime, ClockSkew: p.ClockSkew,
	}
}

// An APIServer is a kube-apiserver whose key set is mirrored. Its issuer must
// be exactly the same. The credential needs only the ClusterRole
// system:service-account-issuer-discovery, which every ServiceAccount has.
type APIServer struct {
	// Kubeconfig and Context select it as kubectl does. In a Pod the default is
	// the cluster that it runs in.
	Kubeconfig string `yaml:"kubeconfig,omitempty"`
	Context    string `yaml:"context,omitempty"`

	// KubeLimits restrict a kubeconfig that a file of IssuersDir names.
	KubeLimits *kube.Limits `yaml:"-"`

	// Interval is the time between two fetches, plus or minus a tenth. Default
	// 10s.
	Interval Duration `yaml:"interval,omitempty"`
}

// Files are public keys in files.
type Files struct {
	// Paths are files or patterns like keys/*.pem, as many as kube-apiserver's
	// --service-account-key-file takes: PEM with public keys or certificates,
	// or JSON Web Key Sets. Must be set. Of a private key the public half is
	// published, with a warning.
	Paths []string `yaml:"paths"`

	// Interval is the time between two looks at the files, plus or minus a
	// tenth. Default 1s. With n issuers of files in a process it is at least n
	// half milliseconds: 5s for 10,000.
	Interval Duration `yaml:"interval,omitempty"`
}

// A URL is the key set of another issuer, over https.
type URL struct {
	// JWKS is the URL of the key set. Must be set.
	JWKS string `yaml:"jwks"`

	// CAFile is a PEM file with the CA of the server. Default the system's.
	CAFile string `yaml:"caFile,omitempty"`

	// Interval is the time between two fetches, plus or minus a tenth. Default
	// 1m.
	Interval Duration `yaml:"interval,omitempty"`
}
