package etcd

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"

	"oidc-provider/internal/hint"
)

const (
	defaultPort   = "2379"
	defaultPrefix = "/oidc-provider"
	ringKey       = "/ring"
)

// address shows the form of a store in etcd.
const address = "write {store} as etcd://HOST:2379,HOST:2379/PREFIX, or with etcds: for TLS"

// Parse parses etcd://HOST[:PORT][,HOST[:PORT]...][/PREFIX], or the same with
// etcds: for TLS. The default port is 2379, the default prefix /oidc-provider.
// The key is PREFIX/ring, so that a role of etcd for the prefix also covers keys
// that later versions may add.
func Parse(spec string) (endpoints []string, key string, tls bool, err error) {
	// The address is not quoted here: it may contain a password.
	if strings.Contains(spec, "@") {
		return nil, "", false, hint.Errorf("set {etcd.user} and {etcd.passwordFile} instead",
			"store etcd: the address must not contain a user and password")
	}
	fail := func(help, format string, args ...any) ([]string, string, bool, error) {
		return nil, "", false, hint.Errorf(help, "store %q: %s", spec, fmt.Sprintf(format, args...))
	}
	scheme, rest, _ := strings.Cut(spec, "://")
	tls = strings.EqualFold(scheme, "etcds")
	if !tls && !strings.EqualFold(scheme, "etcd") {
		return fail(address, "not an address of etcd")
	}
	if strings.ContainsAny(rest, "?#") {
		return fail("set {etcd.caFile}, {etcd.certFile} and {etcd.keyFile} "+
			"for TLS, {etcd.user} and {etcd.passwordFile} to log in",
			"the address must not contain ? or #")
	}
	hosts, prefix, _ := strings.Cut(rest, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		endpoint, err := parseEndpoint(host)
		if err != nil {
			return nil, "", false, fmt.Errorf("store %q: %w", spec, err)
		}
		endpoints = append(endpoints, endpoint)
	}
	prefix = strings.TrimRight("/"+prefix, "/")
	switch {
	case prefix == "":
		prefix = defaultPrefix
	case prefix != path.Clean(prefix):
		return fail("write "+path.Clean(prefix), "prefix %s is not in its simplest form", prefix)
	case prefix == "/registry" || strings.HasPrefix(prefix, "/registry/"):
		return fail("use another prefix, such as "+defaultPrefix, "keys under /registry belong to kube-apiserver")
	}
	return endpoints, prefix + ringKey, tls, nil
}

func parseEndpoint(s string) (string, error) {
	u, err := url.Parse("//" + s)
	if err != nil || u.Host != s || u.Hostname() == "" || s[0] != '[' && strings.Contains(u.Hostname(), ":") {
		return "", hint.Errorf(address+"; put an IPv6 address in brackets", "%q is not HOST or HOST:PORT", s)
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", hint.Errorf("use etcd's port for clients, usually 2379", "%q has no valid port", s)
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
