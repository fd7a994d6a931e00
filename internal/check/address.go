package check

import (
	"errors"
	"net/netip"
	"slices"
)

var errPrivate = errors.New("is an address of this machine or of a private network, and was not asked")

// private are the networks, beside those that netip knows, of addresses that lead
// to this machine, into its network or, translated, to one of these.
var private = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network (RFC 791)
	netip.MustParsePrefix("100.64.0.0/10"),   // shared between carriers and customers (RFC 6598)
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments, DS-Lite (RFC 6890)
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks (RFC 2544)
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("::/96"),           // IPv4-compatible (RFC 4291)
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64 (RFC 6052)
	netip.MustParsePrefix("64:ff9b:1::/48"),  // local NAT64 (RFC 8215)
	netip.MustParsePrefix("100::/64"),        // discard (RFC 6666)
	netip.MustParsePrefix("2001::/32"),       // Teredo (RFC 4380)
	netip.MustParsePrefix("2002::/16"),       // 6to4 (RFC 3056)
	netip.MustParsePrefix("::ffff:0:0:0/96"), // IPv4-translated (RFC 2765)
	netip.MustParsePrefix("fec0::/10"),       // site-local (RFC 3879)
}

// isPrivate reports whether an address, "ip:port", belongs to this machine or to a
// private network, or can lead there. The operator may choose such an address for
// the issuer, but a document must not send us to one: what it names could be the
// metadata service of a cloud, or anything else that only this machine reaches.
func isPrivate(address string) bool {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return false // a proxy
	}
	ip := to.Addr().Unmap().WithZone("")
	return ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsPrivate() ||
		slices.ContainsFunc(private, func(p netip.Prefix) bool { return p.Contains(ip) })
}
