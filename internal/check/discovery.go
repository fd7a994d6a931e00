package check

import (
	"fmt"
	"strings"
)

// discoveryChecks look at the contents of the discovery document.
var discoveryChecks = []Check{
	{ID: "discovery/json", Asks: "Is it one JSON object, with no member twice?", look: needsDiscovery(discoveryJSON),
		Traits: Traits{Decisive: true}},
	{ID: "discovery/issuer", Asks: "Is the issuer in it the same, byte for byte?",
		look: needsDiscovery(discoveryIssuer), Traits: Traits{Decisive: true}},
	{ID: "discovery/jwks_uri", Asks: "Does it say where the keys are?", look: needsDiscovery(discoveryJWKSURI),
		Traits: Traits{Decisive: true}},
	{ID: "discovery/members", Asks: "Does it have every required member?", look: needsDiscovery(discoveryMembers)},
	{ID: "discovery/algorithms", Asks: "Does it advertise the algorithms of the keys, and no unsafe ones?",
		look: needsKeys(discoveryAlgorithms)},
}

func discoveryJSON(o *Observation) Result {
	if o.metadataErr != nil {
		return fail(o.metadataErr.Error(), "relying parties cannot read it, or each reads something else in it",
			"serve the JSON document that OpenID Connect Discovery 1.0, section 3, describes")
	}
	return pass("a JSON object of %d bytes", len(o.Discovery.Body))
}

func discoveryIssuer(o *Observation) Result {
	got := o.Metadata.Issuer
	if got == o.Options.Issuer {
		return pass("%s", got)
	}
	do := "make both the same: the iss claim of the tokens decides"
	switch {
	case got == "":
		do = "add the issuer to the discovery document"
	case strings.TrimSuffix(got, "/") == strings.TrimSuffix(o.Options.Issuer, "/"):
		do = "they differ by a slash at the end: " + do
	case strings.EqualFold(got, o.Options.Issuer):
		do = "they differ by upper and lower case: " + do
	}
	return fail(fmt.Sprintf("%.600q, want %q", got, o.Options.Issuer),
		"go-oidc, AWS, Google Cloud, Entra ID, Vault and kube-apiserver compare it byte for byte", do)
}

func discoveryJWKSURI(o *Observation) Result {
	if err := checkJWKSURI(o.Issuer, o.Metadata.JWKSURI); err != nil {
		return fail(fmt.Sprintf("jwks_uri %.200q: %v", o.Metadata.JWKSURI, err),
			"relying parties cannot fetch the keys, or must not", "set jwks_uri to the https URL of the key set")
	}
	return pass("%s", o.Metadata.JWKSURI)
}

func discoveryMembers(o *Observation) Result {
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
		return fail("missing: "+list(sorted(missing)),
			"OpenID Connect Discovery 1.0, section 3, requires them, and AWS IAM checks them", "add them, as lists of strings")
	}
	return pass("every required member")
}

func discoveryAlgorithms(o *Observation) Result {
	advertised := o.Metadata.Algorithms
	if len(advertised) == 0 {
		return skip("it advertises none")
	}
	const do = "advertise RS256, ES256, ES384 and ES512, whichever the keys are for now: some relying parties read this list once"
	for _, alg := range advertised {
		if strings.EqualFold(alg, "none") {
			return fail(fmt.Sprintf("%.32q is advertised", alg),
				"a relying party that follows it accepts tokens that anyone can make", do)
		}
	}
	for i := range o.JWKs {
		k := &o.JWKs[i]
		if k.public != nil && k.signs() && !intersect(k.algorithms(), advertised) {
			return fail(fmt.Sprintf("%s is for %s, but %s is advertised", k.name(), list(k.algorithms()), list(advertised)),
				"go-oidc, Spring and others refuse tokens of an algorithm that is not advertised", do)
		}
	}
	for _, alg := range advertised {
		if strings.HasPrefix(alg, "HS") {
			return warn(fmt.Sprintf("%.32q is advertised", alg),
				"a relying party that uses a published key as the secret of this algorithm accepts tokens that anyone can make", do)
		}
	}
	return pass("%s", list(advertised))
}

// needsDiscovery skips a check without a discovery document.
func needsDiscovery(look func(*Observation) Result) func(*Observation) Result {
	return func(o *Observation) Result {
		if o.Discovery.Body == nil {
			return skip("no discovery document")
		}
		return look(o)
	}
}

// needsKeys skips a check if there are no keys.
func needsKeys(look func(*Observation) Result) func(*Observation) Result {
	return func(o *Observation) Result {
		if len(o.JWKs) == 0 {
			return skip("there are no keys")
		}
		return look(o)
	}
}
