// Package config is the configuration file of `oidc-provider serve`: what may
// stand in it, and what each field means. [Load] reads one; [Config] is the
// manual.
package config

import (
	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// Duration is a time as text, like "24h" or "90s".
type Duration = rotation.Duration

// A Config is what one process serves. File names in it are relative to the
// directory of the file that they stand in.
type Config struct {
	// Listen is the address for the documents of all issuers. Default
	// 127.0.0.1:8080.
	Listen string `yaml:"listen,omitempty"`

	// AdminListen is the address for /livez, /readyz and /metrics. Default
	// 127.0.0.1:8081.
	AdminListen string `yaml:"adminListen,omitempty"`

	// TLS makes Listen speak https. Without it a proxy in front must.
	TLS *TLS `yaml:"tls,omitempty"`

	// AnyHost finds issuers by their path alone if no issuer has the host that
	// was asked for: for a proxy that does not pass the host on. Without it
	// that is so for requests to localhost or to an IP address only, since who
	// asks for an issuer that is not here, or not any more, must not get the
	// keys of another.
	AnyHost bool `yaml:"anyHost,omitempty"`

	// Readiness says when /readyz is well in a process with several issuers:
	// "any" (default) while at least one of them can be served, so that a
	// broken one takes no other out of a load balancer, or "all". With
	// managed issuers on several servers "all" is the safe choice: it takes a
	// server out that has lost sight of a ring. So does a file of IssuersDir
	// that has never been fit to use. /readyz?issuer=URL asks for one issuer
	// alone.
	Readiness string `yaml:"readiness,omitempty"`

	// JWKSMaxAge and DiscoveryMaxAge are how long relying parties may cache
	// the key sets and the configurations, in whole seconds. Defaults 5m and
	// 1h. Issuers may have their own. For a managed issuer they are never
	// above what its publishAhead allows.
	JWKSMaxAge      Duration `yaml:"jwksMaxAge,omitempty"`
	DiscoveryMaxAge Duration `yaml:"discoveryMaxAge,omitempty"`

	// ShutdownDelay is how long to go on serving after /readyz has turned, so
	// that load balancers notice. Default 3s.
	ShutdownDelay Duration `yaml:"shutdownDelay,omitempty"`

	// StateDir is where the last good key sets of apiserver and url issuers
	// are kept, so that a restart during an outage goes on with them. Default
	// oidc-provider-state.
	StateDir string `yaml:"stateDir,omitempty"`

	// Issuers are served from the start. A change of the file, or SIGHUP,
	// adds, changes and removes them while the process runs; all other fields
	// need a restart.
	Issuers []Issuer `yaml:"issuers,omitempty"`

	// IssuersDir is a directory of more issuers: in each file with the ending
	// .yaml, .yml or .json one of the form that stands in Issuers, or several
	// as YAML documents. It is watched: files come and go while the process
	// runs, but the last one only with SIGHUP, since a directory that is empty
	// all of a sudden is mostly one that is not mounted.
	IssuersDir string `yaml:"issuersDir,omitempty"`
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
	// Directory is the URL of the authority. Default that of Let's Encrypt,
	// whose terms of service using it agrees to.
	Directory string `yaml:"directory,omitempty"`

	// Email is whom the authority may write to.
	Email string `yaml:"email,omitempty"`

	// Storage is a directory for the account, the keys and the certificates.
	// Servers that share it share certificates, and answer each other's
	// challenges. Default oidc-provider-acme.
	Storage string `yaml:"storage,omitempty"`

	// CAFile is a PEM file with the CA of the authority's own https address.
	// Default the system's.
	CAFile string `yaml:"caFile,omitempty"`

	// Challenges are how to prove that the hosts are ours: tls-alpn-01, which
	// the authority sends to port 443, where Listen must answer, or http-01,
	// to port 80, where HTTPListen must. Default tls-alpn-01.
	Challenges []string `yaml:"challenges,omitempty"`

	// HTTPListen is the address that answers http-01, and nothing else.
	// Default ":80" if that is among the challenges.
	HTTPListen string `yaml:"httpListen,omitempty"`

	// CheckInterval is how often certificates are looked at: in the last third
	// of their life they are renewed. Default 10m. Authorities whose
	// certificates live for an hour want less.
	CheckInterval Duration `yaml:"checkInterval,omitempty"`
}

// An Issuer is one issuer, with one place that its keys come from.
type Issuer struct {
	// Issuer is the URL that stands in the iss claim. Its documents are served
	// under its path, on its host: https://oidc.example.com/clusters/a has its
	// own beside those of thousands of others.
	Issuer string `yaml:"issuer"`

	// JWKSMaxAge and DiscoveryMaxAge are those of this issuer alone.
	JWKSMaxAge      Duration `yaml:"jwksMaxAge,omitempty"`
	DiscoveryMaxAge Duration `yaml:"discoveryMaxAge,omitempty"`

	// Managed keys are our own: they rotate, and may sign for kube-apiserver.
	Managed *Managed `yaml:"managed,omitempty"`

	// APIServer mirrors the keys of a kube-apiserver that signs by itself.
	APIServer *APIServer `yaml:"apiserver,omitempty"`

	// Files are public keys that somebody lays down.
	Files *Files `yaml:"files,omitempty"`

	// URL mirrors the key set of another issuer.
	URL *URL `yaml:"url,omitempty"`
}

// Managed is a ring of keys in a store, that this process keeps going. The
// flags of `serve` with the same names are explained there.
type Managed struct {
	// The store, and what opens the keys in it.
	store.Config `yaml:",inline"`

	// Create makes new keys if the store is empty. Without it that is an
	// error: a directory that is not mounted must not turn into new keys.
	Create bool `yaml:"create,omitempty"`

	// PublishOnly shows the documents, and neither signs nor rotates.
	PublishOnly bool `yaml:"publishOnly,omitempty"`

	// SignerSocket is the Unix socket to sign for a kube-apiserver on: a path,
	// or @name for an abstract one.
	SignerSocket string `yaml:"signerSocket,omitempty"`

	// RefreshHint is how often that kube-apiserver should fetch the keys, in
	// whole seconds. Default 1m.
	RefreshHint Duration `yaml:"refreshHint,omitempty"`

	// Policy is brought into the ring at start and with a change. What is not
	// set stays as it stands there.
	Policy Policy `yaml:"policy,omitempty"`

	// Witnesses are URLs of key sets that the ring must know all keys of, to tell
	// an old backup by, and WitnessCAFile is a PEM file with their CA. Default
	// the issuer's own key set, if that is https; ["none"] asks nobody.
	Witnesses     []string `yaml:"witnesses,omitempty"`
	WitnessCAFile string   `yaml:"witnessCAFile,omitempty"`

	// RollbackState is a directory of its own that keeps what this server has seen
	// of the ring, to tell an old backup by after a restart.
	RollbackState string `yaml:"rollbackState,omitempty"`
}

// A Policy is what a ring is planned under; see [rotation.Policy].
type Policy struct {
	// Schedule says when a new key begins to sign: "@every 720h", "@weekly",
	// or minute, hour, day, month and weekday in UTC. Default "@every 720h".
	Schedule string `yaml:"schedule,omitempty"`

	// Algorithm of new keys: RS256 (default), ES256, ES384 or ES512.
	Algorithm string `yaml:"algorithm,omitempty"`

	// RSABits is the size of new RS256 keys: 2048 (default), 3072 or 4096.
	RSABits int `yaml:"rsaBits,omitempty"`

	// PublishAhead is how long a key is published before it signs. Default
	// 24h.
	PublishAhead Duration `yaml:"publishAhead,omitempty"`

	// MaxTokenLifetime is the longest time to exp that is signed; retired keys
	// stay published for as long. Default 24h.
	MaxTokenLifetime Duration `yaml:"maxTokenLifetime,omitempty"`

	// ClockSkew is the largest difference between two machines' clocks.
	// Default 10m.
	ClockSkew Duration `yaml:"clockSkew,omitempty"`
}

// Rotation is p as a ring takes it.
func (p Policy) Rotation() rotation.Policy {
	return rotation.Policy{
		Schedule: p.Schedule, Algorithm: jose.SignatureAlgorithm(p.Algorithm), RSABits: p.RSABits,
		PublishAhead: p.PublishAhead, MaxTokenLifetime: p.MaxTokenLifetime, ClockSkew: p.ClockSkew,
	}
}

// An APIServer is a kube-apiserver whose key set is mirrored. Its issuer must
// be ours to the letter. Who asks it needs no more than the ClusterRole
// system:service-account-issuer-discovery, which every ServiceAccount has.
type APIServer struct {
	// Kubeconfig and Context say which one, by kubectl's rules; in a Pod the
	// default is the cluster that it runs in.
	Kubeconfig string `yaml:"kubeconfig,omitempty"`
	Context    string `yaml:"context,omitempty"`

	// Interval is the time between two looks, give or take a tenth. Default
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

	// Interval is the time between two looks at the files, give or take a
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

	// Interval is the time between two fetches, give or take a tenth. Default
	// 1m.
	Interval Duration `yaml:"interval,omitempty"`
}
