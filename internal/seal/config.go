package seal

import "time"

// Config says which identities open sealed private keys. The zero value opens
// none, which is enough to seal for age recipients, and for a ring with plain keys.
type Config struct {
	// IdentityFiles are files with age identities, one per line, as age-keygen
	// writes them. New reads them once; a changed file needs a new Sealer. Only
	// the owner may have access to a file (mode 0600), except that its group may
	// read a file of another user: so Kubernetes mounts Secrets into a Pod with
	// an fsGroup. Default none: keys that are sealed for age recipients stay
	// closed, and cannot sign.
	IdentityFiles []string

	// KMSSocket is the Unix socket of a Kubernetes KMS v2 plugin: a path,
	// unix:///path, or @name for an abstract socket. The first use connects, so
	// the plugin may start later. Default none: keys that are sealed only for kms
	// stay closed, and nothing can be sealed for kms.
	KMSSocket string

	// KMSTimeout limits one call to the plugin. Default 3s, as in kube-apiserver.
	// After that, the plugin counts as unreachable.
	KMSTimeout time.Duration
}
