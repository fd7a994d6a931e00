package check

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

var (
	errNoJWKSURI = errors.New("there is none")
	errNoURL     = errors.New("it is not an absolute https URL without user information and fragment")
	errNotHTTPS  = errors.New("it is http: anybody on the way could put keys of his own in")
)

// issuerChecks look at the issuer URL, before anything is asked.
var issuerChecks = []Check{
	{ID: "issuer/url", Asks: "Is the issuer a URL as OpenID Connect wants it?", look: func(o *Observation) Result {
		if o.IssuerErr != nil {
			return fail(o.IssuerErr.Error(), "relying parties cannot make a URL of it", "give the issuer as it stands in the tokens, like https://oidc.example.com")
		}
		return pass("%s", o.Issuer)
	}},
	{ID: "issuer/scheme", Asks: "Is it https?", look: func(o *Observation) Result {
		if o.IssuerErr != nil {
			return skip("no issuer to ask")
		}
		if u := o.Issuer.URL(); u.Scheme != "https" {
			names, titled := titles(func(p Party) bool { return p.HTTPS })
			return fail(u.Scheme, list(titled)+" take https only", "serve it over https, and make that the issuer").only(names...)
		}
		return pass("https")
	}},
	{ID: "issuer/slash", Asks: "Does it end without a slash?", look: func(o *Observation) Result {
		if strings.HasSuffix(o.Options.Issuer, "/") {
			return warn(fmt.Sprintf("%q ends with a slash", o.Options.Issuer),
				"AWS STS and Entra ID compare it byte for byte with what people type, mostly without one",
				"if tokens are not out there yet, leave the slash out everywhere").only("aws", "azure")
		}
		return pass("no slash at the end")
	}},
	// Paths have upper case letters of right, as those of EKS have.
	{ID: "issuer/case", Asks: "Is its host in lower case?", look: func(o *Observation) Result {
		if o.IssuerErr != nil {
			return skip("no issuer to ask")
		}
		if u := o.Issuer.URL(); !strings.HasPrefix(o.Options.Issuer, strings.ToLower(u.Scheme+"://"+u.Host)) {
			return warn(fmt.Sprintf("%q has upper case letters in its host", o.Options.Issuer),
				"everybody compares it byte for byte, and browsers and libraries write hosts in lower case",
				"if tokens are not out there yet, write it in lower case everywhere")
		}
		return pass("lower case")
	}},
	{ID: "issuer/addresses", Asks: "Does its host have addresses that can be reached from where relying parties are?", look: func(o *Observation) Result {
		return addresses(&o.Configuration)
	}},
}

// addresses judges those of a document's host.
func addresses(d *Document) Result {
	switch {
	case !d.asked():
		return skip("nothing to ask")
	case d.ResolveErr != nil:
		return fail(fmt.Sprintf("no address: %v", d.ResolveErr), "nobody can find it", "publish the host in DNS")
	case d.Chosen:
		return skip("%s, as you said", list(d.Addresses))
	case d.Addresses[0] == viaProxy:
		return skip("asked through the proxy of the environment")
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
	const do = "publish the documents at a public address, or check from outside if DNS says something else there; Google Cloud also takes an uploaded key set (`oidc-provider trust gcp --help`)"
	if len(private) < len(d.Addresses) {
		return warn(seen, why, do).only(names...)
	}
	return fail(seen, why, do).only(names...)
}

// sharedAddresses are behind a carrier's or a cloud's NAT (RFC 6598).
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

func public(ip netip.Addr) bool {
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !sharedAddresses.Contains(ip)
}

// discoveryChecks look at what the configuration says.
var discoveryChecks = []Check{
	{ID: "discovery/json", Asks: "Is it one JSON object, with no member twice?", look: needsConfiguration(func(o *Observation) Result {
		if o.metadataErr != nil {
			return fail(o.metadataErr.Error(), "relying parties cannot read it, or read different things in it", "serve the JSON document of OpenID Connect Discovery 1.0, section 3")
		}
		return pass("a JSON object of %d bytes", len(o.Configuration.Body))
	})},
	{ID: "discovery/issuer", Asks: "Is the issuer in it the same, byte for byte?", look: needsConfiguration(func(o *Observation) Result {
		got := o.Metadata.Issuer
		if got == o.Options.Issuer {
			return pass("%s", got)
		}
		do := "make both the same: what counts is the iss claim of the tokens"
		switch {
		case got == "":
			do = "put the issuer into it"
		case strings.TrimSuffix(got, "/") == strings.TrimSuffix(o.Options.Issuer, "/"):
			do = "they differ by a slash at the end: " + do
		case strings.EqualFold(got, o.Options.Issuer):
			do = "they differ by upper and lower case: " + do
		}
		return fail(fmt.Sprintf("%.600q, want %q", got, o.Options.Issuer), "go-oidc, AWS, Google Cloud, Entra ID, Vault and kube-apiserver compare it byte for byte", do)
	})},
	{ID: "discovery/jwks_uri", Asks: "Does it say where the keys are?", look: needsConfiguration(func(o *Observation) Result {
		if err := checkJWKSURI(o.Issuer, o.Metadata.JWKSURI); err != nil {
			return fail(fmt.Sprintf("jwks_uri %.200q: %v", o.Metadata.JWKSURI, err), "relying parties cannot fetch the keys, or must not", "put the https URL of the key set there")
		}
		return pass("%s", o.Metadata.JWKSURI)
	})},
	{ID: "discovery/members", Asks: "Does it have the members that must be there?", look: needsConfiguration(func(o *Observation) Result {
		var missing []string
		for name, values := range map[string][]string{
			"response_types_supported":              o.Metadata.ResponseTypes,
			"subject_types_supported":               o.Metadata.SubjectTypes,
			"id_token_signing_alg_values_supported": o.Metadata.Algorithms,
		} {
			if len(values) == 0 {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			return fail("missing: "+list(sorted(missing)), "OpenID Connect Discovery 1.0, section 3, requires them, and AWS IAM looks", "add them, as lists of strings")
		}
		return pass("all there")
	})},
	{ID: "discovery/algorithms", Asks: "Are the algorithms in it those of the keys?", look: needsKeys(func(o *Observation) Result {
		advertised := o.Metadata.Algorithms
		if len(advertised) == 0 {
			return skip("none advertised")
		}
		const do = "advertise the algorithms of all keys in the set, the next one included, and no others"
		for _, alg := range advertised {
			if strings.EqualFold(alg, "none") {
				return fail(fmt.Sprintf("%.32q is advertised", alg), "a relying party that believes it takes tokens that anybody can make", do)
			}
		}
		for i := range o.JWKs {
			k := &o.JWKs[i]
			if k.public != nil && k.signs() && !intersect(k.algorithms(), advertised) {
				return fail(fmt.Sprintf("%s is for %s, and advertised are %s", k.name(), list(k.algorithms()), list(advertised)),
					"go-oidc, Spring and others refuse tokens of an algorithm that is not advertised", do)
			}
		}
		for _, alg := range advertised {
			if strings.HasPrefix(alg, "HS") {
				return warn(fmt.Sprintf("%.32q is advertised", alg), "a relying party that believes it, and takes a published key for the secret, takes tokens that anybody can make", do)
			}
		}
		return pass("%s", list(advertised))
	})},
}

// needsConfiguration skips a check if there is no configuration to look at.
func needsConfiguration(look func(*Observation) Result) func(*Observation) Result {
	return func(o *Observation) Result {
		if o.Configuration.Body == nil {
			return skip("no configuration to look at")
		}
		return look(o)
	}
}

// needsKeys skips a check if there is no key to look at.
func needsKeys(look func(*Observation) Result) func(*Observation) Result {
	return func(o *Observation) Result {
		if len(o.JWKs) == 0 {
			return skip("no key to look at")
		}
		return look(o)
	}
}
