package store

import (
	_ "embed"

	"oidc-provider/internal/kube"
	"oidc-provider/internal/seal"
)

// Config says where a ring is kept, how to connect to that store, and what opens
// the private keys in it. A configuration file and the flags of commands fill it.
type Config struct {
	// Store is where the ring is kept: a directory (DIR or file:DIR),
	// etcd://HOST:2379,HOST:2379/PREFIX (etcds:// for TLS) or
	// secret:NAMESPACE/NAME. Must be set. An issuer that is already published
	// can only move to a ring that contains the published keys.
	Store string `yaml:"store"`

	// Etcd is how to connect to a store in etcd.
	Etcd Etcd `yaml:"etcd,omitempty"`

	// Kubeconfig and Context select the cluster of a store in a Secret. Default
	// as kubectl: $KUBECONFIG, ~/.kube/config, or the cluster that this process
	// runs in.
	Kubeconfig string `yaml:"kubeconfig,omitempty"`
	Context    string `yaml:"context,omitempty"`

	// KubeLimits restrict the kubeconfig. Default none.
	KubeLimits *kube.Limits `yaml:"-"`

	// AgeIdentities are files with age identities, which open sealed private
	// keys. Without one that fits, sealed keys cannot sign.
	AgeIdentities []string `yaml:"ageIdentities,omitempty"`

	// KMSSocket is the Unix socket of a Kubernetes KMS v2 plugin, which opens
	// private keys that are sealed for kms.
	KMSSocket string `yaml:"kmsSocket,omitempty"`

	// RingSigners are writers of the ring (ed25519:…, from `keys writers id` where
	// their identity is). A ring that is signed by one of them, or by a writer for
	// whom one of them has vouched, is trusted. The identities above need none of this: they are writers
	// themselves.
	RingSigners []string `yaml:"ringSigners,omitempty"`

	// AllowUnsignedRing accepts a ring that is not signed even with an identity, a
	// plugin or ringSigners. Set it only until `keys sign` has signed the ring.
	AllowUnsignedRing bool `yaml:"allowUnsignedRing,omitempty"`
}

// Etcd is how to connect to etcd. kubeadm creates such files in
// /etc/kubernetes/pki.
type Etcd struct {
	// CAFile is the CA of the etcd servers. CertFile and KeyFile are the client
	// certificate and its key. If any of them is set, the connection uses TLS.
	CAFile   string `yaml:"caFile,omitempty"`
	CertFile string `yaml:"certFile,omitempty"`
	KeyFile  string `yaml:"keyFile,omitempty"`

	// User and the first line of PasswordFile log in to etcd. Both or neither
	// must be set.
	User         string `yaml:"user,omitempty"`
	PasswordFile string `yaml:"passwordFile,omitempty"`

	// Insecure allows a connection beyond this machine without TLS. Anyone in
	// between can then read and replace the ring. Default false: such a store is
	// refused. A server on this machine (127.0.0.0/8, ::1, localhost) needs no TLS.
	Insecure bool `yaml:"insecure,omitempty"`
}

// ConfigSource is the source of [Config], whose comments are the manual.
//
//go:embed config.go
var ConfigSource string

// WithoutKeys returns c without what opens private keys: for a program that needs
// none of them, and should not fail because an identity file is missing.
func (c Config) WithoutKeys() Config {
	c.AgeIdentities, c.KMSSocket = nil, ""
	return c
}

func (c Config) seal() seal.Config {
	return seal.Config{IdentityFiles: c.AgeIdentities, KMSSocket: c.KMSSocket}
}
