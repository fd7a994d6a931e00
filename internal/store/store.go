// Package store opens the store of a ring: a directory, memory or, in the packages
// below this one, etcd and a Kubernetes Secret. Each implements [rotation.Store],
// whose comment is the contract, and passes the conformance tests of package
// storetest.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"

	"oidc-provider/internal/filemode"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
	"oidc-provider/internal/kube"
	"oidc-provider/internal/store/etcd"
	"oidc-provider/internal/store/secret"
	"oidc-provider/rotation"
)

var scheme = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)

// openStore returns the store that cfg names:
//
//	DIR, file:DIR                        a directory
//	etcd://HOST[:PORT],…[/PREFIX]        an etcd cluster; etcds for TLS
//	secret:NAMESPACE/NAME                a Secret of a Kubernetes cluster
func openStore(cfg Config) (rotation.Store, error) {
	path, local := Dir(cfg.Store)
	switch s := scheme.FindString(cfg.Store); strings.ToLower(s) {
	case "etcd:", "etcds:":
		return openEtcd(cfg)
	case "secret:":
		return openSecret(cfg)
	default:
		if !local {
			return nil, hint.Errorf("use file:DIR, etcd://HOST:2379/PREFIX or secret:NAMESPACE/NAME; for a path with a "+
				"colon write ./"+cfg.Store,
				"store %q: unknown kind %q", cfg.Store, s)
		}
	}
	if path == "" {
		return nil, hint.Errorf("set {store} to a directory, etcd://HOST:2379/PREFIX or secret:NAMESPACE/NAME",
			"store: no path")
	}
	return NewFile(path), nil
}

// Dir returns the directory that spec names, and whether it names one.
func Dir(spec string) (path string, ok bool) {
	switch s := scheme.FindString(spec); strings.ToLower(s) {
	case "":
		return spec, true
	case "file:":
		return strings.TrimPrefix(spec[len(s):], "//"), true
	}
	return "", false
}

// CheckOwner returns an error if spec names a directory that a user other than that
// of this process, and root, owns. It is for servers, root's included: commands that
// root types work on any user's store.
func CheckOwner(spec string) error {
	dir, ok := Dir(spec)
	if !ok {
		return nil
	}
	stated := input.Stat(dir)[0]
	if stated.Err != nil {
		return nil // the store says more
	}
	return filemode.CheckOwner(stated.Info, dir)
}

func openEtcd(c Config) (rotation.Store, error) {
	endpoints, key, secure, err := etcd.Parse(c.Store)
	if err != nil {
		return nil, err
	}
	cfg := etcd.Config{Endpoints: endpoints, Key: key, Username: c.Etcd.User}
	if secure || c.Etcd.CAFile != "" || c.Etcd.CertFile != "" || c.Etcd.KeyFile != "" {
		if cfg.TLS, err = etcd.TLSConfig(c.Etcd.CAFile, c.Etcd.CertFile, c.Etcd.KeyFile); err != nil {
			return nil, err
		}
	} else if remote := firstRemote(endpoints); remote != "" && !c.Etcd.Insecure {
		return nil, hint.Errorf("write {store} as etcds://…, with {etcd.caFile} if etcd has a CA of its own; "+
			"to connect without TLS anyway, set {etcd.insecure}",
			"store %s: without TLS, anyone between this machine and %s can read and replace the ring", c.Store, remote)
	}
	if (c.Etcd.User == "") != (c.Etcd.PasswordFile == "") {
		return nil, hint.Errorf("set both {etcd.user} and {etcd.passwordFile}",
			"store %s: a user needs a password file, and the reverse", c.Store)
	}
	if c.Etcd.PasswordFile != "" {
		password, err := os.ReadFile(c.Etcd.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("store %s: reading the etcd password: %w", c.Store, err)
		}
		cfg.Password, _, _ = strings.Cut(string(password), "\n")
	}
	s, err := etcd.New(cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// firstRemote returns the first of endpoints (host:port) that is not certainly on
// this machine, or "".
func firstRemote(endpoints []string) string {
	for _, endpoint := range endpoints {
		host, _, err := net.SplitHostPort(endpoint)
		addr, _ := netip.ParseAddr(host) // invalid for a name
		if err != nil || !addr.Unmap().IsLoopback() && !strings.EqualFold(host, "localhost") {
			return endpoint
		}
	}
	return ""
}

func openSecret(c Config) (rotation.Store, error) {
	namespace, name, err := secret.Parse(c.Store)
	if err != nil {
		return nil, err
	}
	cfg, err := kube.LimitedConfig(c.Kubeconfig, c.Context, c.KubeLimits)
	if err != nil {
		return nil, err
	}
	s, err := secret.New(cfg, namespace, name)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// versionOf returns the version of a document: a hash of its content.
func versionOf(data []byte) rotation.Version {
	sum := sha256.Sum256(data)
	return rotation.Version(hex.EncodeToString(sum[:]))
}
