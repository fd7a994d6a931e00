package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tokenChecks look at a token, if one was given.
var tokenChecks = append([]Check{
	aToken("form", "Is it a signed JWT in three parts?", tokenForm),
	aToken("header", "Does its header have only alg, kid and typ?", tokenHeader),
	aToken("kid", "Is its key published?", withKeys(tokenKID)),
	aToken("algorithm", "Is its algorithm advertised, and does the key have it?", withKeys(tokenAlgorithm)),
	aToken("signature", "Is the signature valid?", withKeys(tokenSignature)),
	aToken("issuer", "Is it from this issuer, byte for byte?", tokenIssuer),
	aToken("times", "Is it valid now?", tokenTimes),
	aToken("audience", "Is it for the right audience?", tokenAudience),
	aToken("subject", "Is its subject a ServiceAccount?", tokenSubject),
}, tokenRules()...)

func aToken(what, asks string, look func(*Observation, *token) Result) Check {
	return Check{ID: "token/" + what, Asks: asks, Traits: Traits{Decisive: true}, look: func(o *Observation) Result {
		switch {
		case o.token == nil:
			return Result{}
		case o.token.err != nil && what == "form":
			return fail("not a JSON Web Token: "+o.token.err.Error(), "every relying party refuses it (RFC 7519)",
				"give only the token, exactly as in its file")
		case o.token.err != nil:
			return skip("the token cannot be read")
		}
		return look(o, o.token)
	}}
}

// withKeys skips a check of a token's key if there are no keys.
func withKeys(look func(*Observation, *token) Result) func(*Observation, *token) Result {
	return func(o *Observation, t *token) Result {
		if len(o.JWKs) == 0 {
			return skip("there are no keys")
		}
		return look(o, t)
	}
}

// key returns the key with a kid, nil if there is none.
func (o *Observation) key(kid string) *JWK {
	for i := range o.JWKs {
		if k := &o.JWKs[i]; k.KeyID == kid && kid != "" {
			return k
		}
	}
	return nil
}

func tokenForm(_ *Observation, t *token) Result { return pass("%d bytes", t.size) }

func tokenHeader(_ *Observation, t *token) Result {
	for _, name := range []string{"jku", "jwk", "x5u", "x5c", "crit"} {
		if _, there := t.header[name]; there {
			return fail("the header has "+name, "relying parties refuse it, or should: it names its own keys or rules",
				"sign with only alg, kid and typ in the header")
		}
	}
	if t.alg == "" || strings.EqualFold(t.alg, "none") || strings.HasPrefix(t.alg, "HS") {
		return fail(fmt.Sprintf("alg is %.32q", t.alg), "anyone could make such a token", "sign with RS256")
	}
	others := maps.Clone(t.header)
	maps.DeleteFunc(others, func(name string, _ json.RawMessage) bool {
		return name == "alg" || name == "kid" || name == "typ"
	})
	if len(others) > 0 {
		return warn("the header has "+list(slices.Sorted(maps.Keys(others))),
			"tokens of kube-apiserver have only alg, kid and typ", "find out who signed it")
	}
	return pass("%s", name(t.alg))
}

func tokenKID(o *Observation, t *token) Result {
	if o.key(t.kid) == nil {
		var kids []string
		for _, k := range o.JWKs {
			kids = append(kids, k.KeyID)
		}
		return fail(fmt.Sprintf("unknown kid: the token has %.64q, the issuer publishes %s", t.kid, list(kids)),
			"no relying party can verify it",
			"get a new token: its key was revoked, was removed after its time, or belongs to another issuer")
	}
	return pass("%s", name(t.kid))
}

func tokenAlgorithm(o *Observation, t *token) Result {
	k, advertised := o.key(t.kid), o.Metadata.Algorithms
	switch {
	case k == nil:
		return skip("the key is not published")
	case k.public == nil:
		return skip("the key cannot be read")
	case !slices.Contains(k.algorithms(), t.alg):
		return fail(fmt.Sprintf("wrong algorithm: the token has %.32q, the key is for %s", t.alg, list(k.algorithms())),
			"relying parties refuse it", "sign with the algorithm of the key")
	case len(advertised) > 0 && !slices.Contains(advertised, t.alg):
		return fail(fmt.Sprintf("wrong algorithm: the token has %.32q, the issuer advertises %s", t.alg, list(advertised)),
			"go-oidc and others refuse it", "advertise it in the discovery document")
	}
	return pass("%s", name(t.alg))
}

func tokenSignature(o *Observation, t *token) Result {
	k := o.key(t.kid)
	if k == nil || k.public == nil {
		return skip("the key is not published")
	}
	if t.signatureErr != nil {
		return fail("bad signature: "+k.name()+" did not sign this header and these claims", "no relying party accepts it",
			"get a new token, and make sure that nothing changes it in transit")
	}
	return pass("valid")
}

func tokenIssuer(o *Observation, t *token) Result {
	if t.issuer != o.Options.Issuer {
		return fail(fmt.Sprintf("wrong issuer: want %q, the token is from %.600q", o.Options.Issuer, t.issuer),
			"relying parties compare it byte for byte", "set up trust in the issuer that the tokens name")
	}
	return pass("%s", t.issuer)
}

func tokenTimes(o *Observation, t *token) Result {
	const skew = 5 * time.Minute
	const getBound = "get a bound token, for example with `kubectl create token`"
	now := float64(o.Time.Unix())
	switch {
	case min(t.expiry, t.issued, t.notBefore) < 0 || max(t.expiry, t.issued, t.notBefore) > lastDate:
		return fail("exp, iat or nbf is not a date", "each relying party makes a different date of it",
			"find out who signed it")
	case t.expiry == 0:
		return fail("exp is missing", "it would never expire", getBound)
	case t.expiry <= now:
		return fail("expired since "+date(t.expiry), "no relying party accepts it",
			"get a new one: kubelet renews the file of a projected volume")
	case t.issued == 0:
		return fail("iat is missing", "Google Cloud and others require it", getBound)
	case max(t.issued, t.notBefore) > now+skew.Seconds():
		return fail("valid from "+date(max(t.issued, t.notBefore)), "it is not valid yet", "set the clocks")
	}
	return pass("until %s", date(t.expiry))
}

func tokenAudience(o *Observation, t *token) Result {
	want := o.Options.Audience
	switch {
	case len(t.audience) == 0 || t.audience[0] == "":
		return fail("aud is missing", "a relying party that checks it refuses the token, "+
			"and one that does not accepts tokens for others", "request a token with an audience")
	case want != "" && !slices.Contains(t.audience, want):
		return fail(fmt.Sprintf("wrong audience: want %q, the token is for %s", want, list(t.audience)),
			"a relying party must refuse tokens for others",
			"request the right audience, in the projected volume or with `kubectl create token --audience`")
	}
	return pass("%s", list(t.audience))
}

func tokenSubject(_ *Observation, t *token) Result {
	parts := strings.Split(t.subject, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" || parts[2] == "" || parts[3] == "" {
		return warn(fmt.Sprintf("sub is %.200q", t.subject),
			"tokens of ServiceAccounts have system:serviceaccount:NAMESPACE:NAME", "check that it is the token that you meant")
	}
	return pass("%s", name(t.subject))
}

// lastDate is the end of the year 9999, the last date in RFC 3339.
const lastDate = 253402300799

func date(seconds float64) string {
	return timestamp(time.Unix(int64(min(max(seconds, 0), lastDate)), 0))
}

// tokenRules returns the checks for what single relying parties require of a
// token.
func tokenRules() (checks []Check) {
	for _, p := range Parties {
		limits := p.MaxSubject > 0 || p.MaxAudiences > 0 || p.MaxAge > 0 || p.AuthorizedParty
		if !limits && p.Audience == "" && p.Algorithms == nil {
			continue
		}
		c := aToken(p.Name, fmt.Sprintf("Does %s accept such claims?", p.Title),
			func(o *Observation, t *token) Result { return acceptsClaims(o, t, p) })
		c.For = p.Name
		checks = append(checks, c)
	}
	return checks
}

func acceptsClaims(o *Observation, t *token, p Party) Result {
	atMost := func(seen string, limit int, do string) Result {
		return fail(seen, fmt.Sprintf("%s accepts at most %d", p.Title, limit), do)
	}
	_, authorized := t.claims["azp"]
	age := o.Time.Sub(time.Unix(int64(t.issued), 0))
	switch {
	case p.Algorithms != nil && !slices.Contains(p.Algorithms, t.alg):
		return fail(fmt.Sprintf("alg is %.32q", t.alg),
			fmt.Sprintf("%s supports only %s", p.Title, list(p.Algorithms)), useRS256)
	case p.MaxSubject > 0 && len(t.subject) > p.MaxSubject:
		return atMost("sub has "+count(len(t.subject), "byte"), p.MaxSubject,
			"use shorter names, or for Google Cloud another mapping of google.subject")
	case p.NoSpace && strings.ContainsFunc(t.subject, func(r rune) bool { return r <= ' ' }):
		return fail(fmt.Sprintf("sub is %.200q", t.subject), p.Title+" refuses white space", "use names without white space")
	case p.MaxAudiences > 0 && len(t.audience) > p.MaxAudiences:
		return atMost(count(len(t.audience), "audience"), p.MaxAudiences, "request a token with one audience")
	case p.MaxAudience > 0 && slices.ContainsFunc(t.audience, func(a string) bool { return len(a) > p.MaxAudience }):
		return fail("an audience is too long", fmt.Sprintf("%s accepts at most %d bytes", p.Title, p.MaxAudience),
			"request a shorter one")
	case p.AuthorizedParty && len(t.audience) > 1 && !authorized:
		return fail(count(len(t.audience), "audience")+" and no azp", p.Title+" needs azp if there are several",
			"request a token with one audience")
	case p.MaxAge > 0 && t.issued > 0 && age > p.MaxAge:
		return fail(fmt.Sprintf("issued %v ago", age.Round(time.Minute)),
			fmt.Sprintf("%s refuses tokens that are older than %v", p.Title, p.MaxAge),
			"get a new one, and request short-lived ones")
	case p.Audience != "" && !slices.Contains(t.audience, p.Audience):
		return warn("for "+list(t.audience), fmt.Sprintf("%s accepts it only if this audience is configured there; "+
			"the usual one is %s", p.Title, p.Audience), "request a token with the audience "+p.Audience)
	}
	return pass("alg, aud and sub are acceptable")
}
