package discovery

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// checkHost refuses a host or port that relying parties cannot parse or connect
// to: their URL libraries are stricter than Go's.
func checkHost(u *url.URL) error {
	if err := checkPort(u); err != nil {
		return err
	}
	host := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		if ip, err := netip.ParseAddr(host); err != nil || ip.Zone() != "" || !ip.Is6() {
			return fmt.Errorf("host [%s] is not an IPv6 address that others can use", host)
		}
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	return checkName(strings.TrimSuffix(host, "."))
}

func checkPort(u *url.URL) error {
	port := u.Port()
	if port == "" {
		if strings.HasSuffix(u.Host, ":") {
			return withHint(errors.New("the port is empty"), "remove the colon")
		}
		return nil
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("port %s is not between 1 and 65535", port)
	}
	if port[0] == '0' {
		return withHint(fmt.Errorf("port %s begins with a zero", port), "remove the zeros")
	}
	return nil
}

// checkName refuses what is not a host name (RFC 1123, section 2.1). An underscore
// is not allowed in one, but DNS has it.
func checkName(host string) error {
	if len(host) > 253 {
		return fmt.Errorf("the host has %d characters, and DNS allows 253", len(host))
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		switch i := strings.IndexFunc(label, func(r rune) bool {
			return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}); {
		case label == "":
			return fmt.Errorf("host %q has an empty label", host)
		case strings.Contains(label, "*"):
			return withHint(fmt.Errorf("host %q is a pattern", host), "an issuer is one URL, and * is for certificates")
		case i >= 0:
			return fmt.Errorf("host %q has the character %q", host, label[i])
		case len(label) > 63:
			return fmt.Errorf("the part %.10s… of the host has %d characters, and DNS allows 63", label, len(label))
		case label[0] == '-' || label[len(label)-1] == '-':
			return fmt.Errorf("the part %q of the host begins or ends with a hyphen", label)
		}
	}
	// The URL Standard takes such a host for an IPv4 address, and reads 1.2.3 as
	// 1.2.0.3.
	last := strings.ToLower(labels[len(labels)-1])
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == "" {
		return fmt.Errorf("host %q ends with a number, and is not an IP address", host)
	}
	return nil
}

// privateSuffixes are those of names that only one network has.
var privateSuffixes = []string{".local", ".internal", ".localdomain", ".localhost", ".lan", ".intranet", ".corp",
	".home.arpa", ".in-addr.arpa"}

// shared is the address space between carriers and their customers (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// hostWarning returns why relying parties elsewhere cannot reach a host, or may not
// accept it, "" if they can.
func hostWarning(host string) string {
	const unreachable = ": relying parties elsewhere, such as clouds, cannot fetch its documents"
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		if ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || shared.Contains(ip) {
			return "the address belongs to a private network" + unreachable
		}
		return ""
	}
	if host == "localhost" {
		return "" // for tests on this machine
	}
	if host == "kubernetes" || host == "kubernetes.default" || strings.HasPrefix(host, "kubernetes.default.svc") ||
		strings.HasSuffix(host, ".svc") || strings.Contains(host, ".svc.cluster.") || strings.HasSuffix(host, ".cluster.local") {
		return "the host is a name inside a cluster" + unreachable
	}
	if !strings.Contains(host, ".") {
		return "the host has no domain" + unreachable
	}
	for _, suffix := range privateSuffixes {
		if strings.HasSuffix(host, suffix) {
			return "the host is a name inside a private network" + unreachable
		}
	}
	if strings.Contains(host, "_") {
		return "the host has an underscore: Java reads no host in such a URL, and public CAs issue no certificate for it"
	}
	return ""
}
