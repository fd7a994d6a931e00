// Package store holds the places where a ring can live: a directory, memory,
// and, in packages below this one, etcd and a Kubernetes Secret. Each implements
// [rotation.Store], whose comment is the contract, and passes the same
// conformance tests, package storetest.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"oidc-provider/internal/kube"
	"oidc-provider/internal/store/etcd"
	"oidc-provider/internal/store/secret"
	"oidc-provider/rotation"
)

var scheme = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)

// Options are what it takes to reach a store, beside its name.
type Options struct {
	// Etcd are files with the CA of the etcd servers and with the certificate
	// that they ask clients for, as kubeadm lays them down. With any of them,
	// or the scheme etcds, the connection is TLS.
	EtcdCAFile, EtcdCertFile, EtcdKeyFile string

	// EtcdUser and the first line of EtcdPasswordFile log in where etcd asks
	// for that.
	EtcdUser, EtcdPasswordFile string

	// Kubeconfig and Context say which cluster holds a Secret, by kubectl's
	// rules: without them $KUBECONFIG, ~/.kube/config, or the cluster that
	// this process runs in.
	Kubeconfig, Context string
}

// Open returns the store that spec names. Nothing of it need exist yet.
//
//	DIR, file:DIR                        a directory
//	etcd://HOST[:PORT],…[/PREFIX]        an etcd cluster; etcds for TLS
//	secret:NAMESPACE/NAME                a Secret of a Kubernetes cluster
func Open(spec string, o Options) (rotation.Store, error) {
	path, local := Dir(spec)
	switch s := scheme.FindString(spec); strings.ToLower(s) {
	case "etcd:", "etcds:":
		return openEtcd(spec, o)
	case "secret:":
		return openSecret(spec, o)
	default:
		if local {
			break
		}
		return nil, fmt.Errorf("store %q: unknown kind %q (hint: use file:DIR, etcd://HOST:2379/PREFIX or secret:NAMESPACE/NAME; for a path with a colon write ./%s)", spec, s, spec)
	}
	if path == "" {
		return nil, errors.New("store: no path (hint: use file:DIR)")
	}
	return NewFile(path), nil
}

// Dir is the directory that spec names, if it is one.
func Dir(spec string) (path string, ok bool) {
	switch s := scheme.FindString(spec); strings.ToLower(s) {
	case "":
		return spec, true
	case "file:":
		return strings.TrimPrefix(spec[len(s):], "//"), true
	}
	return "", false
}

func openEtcd(spec string, o Options) (rotation.Store, error) {
	endpoints, key, secure, err := etcd.Parse(spec)
	if err != nil {
		return nil, err
	}
	cfg := etcd.Config{Endpoints: endpoints, Key: key, Username: o.EtcdUser}
	if secure || o.EtcdCAFile != "" || o.EtcdCertFile != "" || o.EtcdKeyFile != "" {
		if cfg.TLS, err = etcd.TLSConfig(o.EtcdCAFile, o.EtcdCertFile, o.EtcdKeyFile); err != nil {
			return nil, err
		}
	}
	if (o.EtcdUser == "") != (o.EtcdPasswordFile == "") {
		return nil, errors.New("etcd: a user and a password file go together (hint: --etcd-user and --etcd-password-file)")
	}
	if o.EtcdPasswordFile != "" {
		password, err := os.ReadFile(o.EtcdPasswordFile)
		if err != nil {
			return nil, fmt.Errorf("etcd: reading the password: %w", err)
		}
		cfg.Password, _, _ = strings.Cut(string(password), "\n")
	}
	s, err := etcd.New(cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openSecret(spec string, o Options) (rotation.Store, error) {
	namespace, name, err := secret.Parse(spec)
	if err != nil {
		return nil, err
	}
	cfg, err := kube.Config(o.Kubeconfig, o.Context)
	if err != nil {
		return nil, err
	}
	s, err := secret.New(cfg, namespace, name)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// versionOf names a document by its content.
func versionOf(data []byte) rotation.Version {
	sum := sha256.Sum256(data)
	return rotation.Version(hex.EncodeToString(sum[:]))
}
