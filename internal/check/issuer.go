package check

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

var (
	errNoJWKSURI = errors.New("it is missing")
	errNoURL     = errors.New("it is not an absolute https URL without user information and fragment")
	errNotHTTPS  = errors.New("it is http: anyone on the network path could replace the keys")
)

// issuerChecks look at the issuer URL, before any request.
var issuerChecks = []Check{
	{ID: "issuer/url", Asks: "Is the issuer a URL that OpenID Connect allows?", look: issuerURL,
		Traits: Traits{Decisive: true}},
	{ID: "issuer/scheme", Asks: "Is it https?", look: issuerScheme},
	{ID: "issuer/slash", Asks: "Does it end without a slash?", look: issuerSlash},
	// Upper case letters are fine in paths: EKS has them.
	{ID: "issuer/case", Asks: "Is its host in lower case?", look: issuerCase},
	{ID: "issuer/addresses", Asks: "Does its host have addresses that relying parties can reach?",
		look: func(o *Observation) Result { return addresses(&o.Discovery) }},
}

func issuerURL(o *Observation) Result {
	if o.IssuerErr != nil {
		return fail(o.IssuerErr.Error(), "relying parties cannot use it as a URL",
			"give the issuer exactly as in the tokens, like https://oidc.example.com")
	}
	return pass("%s", o.Issuer)
}

func issuerScheme(o *Observation) Result {
	if o.IssuerErr != nil {
		return skip("the issuer is not a URL")
	}
	if u := o.Issuer.URL(); u.Scheme != "https" {
		names, titled := titles(func(p Party) bool { return p.HTTPS })
		return fail(u.Scheme, list(titled)+" accept https only",
			"serve the documents over https, and change the issuer to the https URL").only(names...)
	}
	return pass("https")
}

func issuerSlash(o *Observation) Result {
	if strings.HasSuffix(o.Options.Issuer, "/") {
		return warn(fmt.Sprintf("%q ends with a slash", o.Options.Issuer),
			"AWS STS and Entra ID compare it byte for byte with what an administrator typed, usually without the slash",
			"if no tokens are in use yet, remove the slash everywhere").only("aws", "azure")
	}
	return pass("no slash at the end")
}

func issuerCase(o *Observation) Result {
	if o.IssuerErr != nil {
		return skip("the issuer is not a URL")
	}
	if u := o.Issuer.URL(); !strings.HasPrefix(o.Options.Issuer, strings.ToLower(u.Scheme+"://"+u.Host)) {
		return warn(fmt.Sprintf("%q has upper case letters in its host", o.Options.Issuer),
			"relying parties compare it byte for byte, while browsers and libraries change hosts to lower case",
			"if no tokens are in use yet, write the host in lower case everywhere")
	}
	return pass("lower case")
}

// addresses judges the addresses of a document's host.
func addresses(d *Document) Result {
	switch {
	case !d.asked():
		return skip("no request was sent")
	case errors.Is(d.ResolveErr, errPrivate):
		return fail(d.ResolveErr.Error(), "the discovery document names that host: relying parties elsewhere cannot reach "+
			"it, and those that can should not trust a document that sends them there",
			"name a public host in jwks_uri, or set {option.allowPrivate} if that address is meant")
	case d.ResolveErr != nil:
		return fail(fmt.Sprintf("no address: %v", d.ResolveErr), "relying parties cannot find the host",
			"publish the host in DNS")
	case d.Chosen:
		return skip("%s, as you chose", list(d.Addresses))
	case d.Addresses[0] == viaProxy:
		return skip("asked through the proxy that the environment names")
	}
	var private []string
	for _, address := range d.Addresses {
		if ip, err := netip.ParseAddrPort(address); err == nil && !public(ip.Addr()) {
			private = append(private, ip.Addr().String())
		}
	}
	seen := list(d.Addresses)
	if len(private) == 0 {
		return pass("%s", seen)
	}
	names, titled := titles(func(p Party) bool { return p.Internet })
	why := list(titled) + " ask from the internet, and " + list(private) + " cannot be reached from there"
	const do = "publish the documents at a public address, or run this check from outside if DNS differs there; " +
		"Google Cloud also takes an uploaded key set (`oidc-provider trust gcp --help`)"
	if len(private) < len(d.Addresses) {
		return warn(seen, why, do).only(names...)
	}
	return fail(seen, why, do).only(names...)
}

// sharedAddresses are behind the NAT of a carrier or a cloud (RFC 6598).
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

func public(ip netip.Addr) bool {
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !sharedAddresses.Contains(ip)
}
