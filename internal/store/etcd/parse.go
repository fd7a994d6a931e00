package etcd

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

const (
	defaultPort   = "2379"
	defaultPrefix = "/oidc-provider"
	ringKey       = "/ring"
)

// Parse reads etcd://HOST[:PORT][,HOST[:PORT]...][/PREFIX]. With etcds: it is
// the same over TLS. The port is 2379 by default, the prefix /oidc-provider,
// and the key is PREFIX/ring: what else comes to stand under the prefix one
// day is in reach of the same role of etcd.
func Parse(spec string) (endpoints []string, key string, tls bool, err error) {
	// What may be a password is not repeated.
	if strings.Contains(spec, "@") {
		return nil, "", false, errors.New("store etcd: user and password do not belong into the address (hint: --etcd-user and --etcd-password-file)")
	}
	fail := func(format string, args ...any) ([]string, string, bool, error) {
		return nil, "", false, fmt.Errorf("store %q: %s", spec, fmt.Sprintf(format, args...))
	}
	scheme, rest, _ := strings.Cut(spec, "://")
	tls = strings.EqualFold(scheme, "etcds")
	if !tls && !strings.EqualFold(scheme, "etcd") {
		return fail("not an address of etcd (hint: etcd://HOST:2379,HOST:2379/PREFIX, or etcds: for TLS)")
	}
	if strings.ContainsAny(rest, "?#") {
		return fail("neither ? nor # has a meaning in it (hint: certificates and users have flags of their own, --etcd-ca-file and so on)")
	}
	hosts, prefix, _ := strings.Cut(rest, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		endpoint, err := parseEndpoint(host)
		if err != nil {
			return fail("%v", err)
		}
		endpoints = append(endpoints, endpoint)
	}
	prefix = strings.TrimRight("/"+prefix, "/")
	switch {
	case prefix == "":
		prefix = defaultPrefix
	case prefix != path.Clean(prefix):
		return fail("prefix %s is not in its simplest form (hint: write %s)", prefix, path.Clean(prefix))
	case prefix == "/registry" || strings.HasPrefix(prefix, "/registry/"):
		return fail("what stands under /registry belongs to kube-apiserver (hint: use another prefix, like %s)", defaultPrefix)
	}
	return endpoints, prefix + ringKey, tls, nil
}

func parseEndpoint(s string) (string, error) {
	u, err := url.Parse("//" + s)
	if err != nil || u.Host != s || u.Hostname() == "" || s[0] != '[' && strings.Contains(u.Hostname(), ":") {
		return "", fmt.Errorf("%q is not a host with or without a port (hint: etcd://HOST:2379,HOST:2379/PREFIX; an IPv6 address stands in brackets)", s)
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has no valid port (hint: etcd listens on 2379 for clients)", s)
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
