package check

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// MaxToken, in bytes, is far above what fits into a request header.
const MaxToken = 64 << 10

// A token is what a JWT says, believed in nothing. The JWT itself is not kept,
// so that it goes nowhere with a report.
type token struct {
	size   int
	err    error
	header map[string]json.RawMessage
	claims map[string]json.RawMessage

	alg, kid                  string
	issuer, subject           string
	audience                  audience
	expiry, issued, notBefore float64

	signatureErr error // for the key with its kid, if there is one
}

// observeToken looks at a token, and at its signature if its key is known.
func (o *Observation) observeToken(raw string) {
	o.token = parseToken(raw)
	k := o.key(o.token.kid)
	if k == nil || k.public == nil {
		return
	}
	parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(o.token.alg)})
	if err == nil {
		_, err = parsed.Verify(k.public)
	}
	o.token.signatureErr = err
}

// Judge is what there is to say to another token, by what was seen of the
// issuer.
func (o *Observation) Judge(token, audience string) *Report {
	other := *o
	other.Options.Audience = audience
	other.observeToken(token)
	return judge(&other)
}

func parseToken(raw string) *token {
	t := &token{size: len(raw)}
	parts := strings.Split(raw, ".")
	switch {
	case len(raw) > MaxToken:
		t.err = fmt.Errorf("it is longer than %d bytes", MaxToken)
		return t
	case len(parts) != 3:
		t.err = fmt.Errorf("it has %d parts between dots, want 3", len(parts))
		return t
	}
	for i, to := range []*map[string]json.RawMessage{&t.header, &t.claims} {
		what := []string{"first part, the header,", "second part, the claims,"}[i]
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.err = fmt.Errorf("the %s is not base64url", what)
			return t
		}
		if err := json.Unmarshal(data, to); err != nil || *to == nil {
			t.err = fmt.Errorf("the %s is no JSON object", what)
			return t
		}
		if err := duplicate(data); err != nil {
			t.err = fmt.Errorf("in the %s %w", what, err)
			return t
		}
	}
	for _, member := range []struct {
		of   map[string]json.RawMessage
		name string
		to   any
	}{
		{t.header, "alg", &t.alg}, {t.header, "kid", &t.kid},
		{t.claims, "iss", &t.issuer}, {t.claims, "sub", &t.subject}, {t.claims, "aud", &t.audience},
		{t.claims, "exp", &t.expiry}, {t.claims, "iat", &t.issued}, {t.claims, "nbf", &t.notBefore},
	} {
		if v, there := member.of[member.name]; there && json.Unmarshal(v, member.to) != nil {
			t.err = fmt.Errorf("%s is not of its type (RFC 7519, section 4.1)", member.name)
		}
	}
	return t
}

// An audience is a text, or a list of them (RFC 7519, section 4.1.3).
type audience []string

// UnmarshalJSON implements [json.Unmarshaler].
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// tokenChecks look at a token, if there is one.
var tokenChecks = append([]Check{
	aToken("form", "Is it a signed JWT in three parts?", func(o *Observation, t *token) Result {
		return pass("%d bytes", t.size)
	}),
	aToken("header", "Does its header have alg, kid and typ, and nothing that leads elsewhere?", func(_ *Observation, t *token) Result {
		for _, name := range []string{"jku", "jwk", "x5u", "x5c", "crit"} {
			if _, there := t.header[name]; there {
				return fail("the header has "+name, "relying parties refuse it, or should: it brings keys or rules of its own", "let it be signed with alg, kid and typ alone")
			}
		}
		if t.alg == "" || strings.EqualFold(t.alg, "none") || strings.HasPrefix(t.alg, "HS") {
			return fail(fmt.Sprintf("alg is %.32q", t.alg), "anybody could make such a token", "sign with RS256")
		}
		others := maps.Clone(t.header)
		maps.DeleteFunc(others, func(name string, _ json.RawMessage) bool { return name == "alg" || name == "kid" || name == "typ" })
		if len(others) > 0 {
			return warn("the header has "+list(slices.Sorted(maps.Keys(others))), "kube-apiserver's tokens have alg, kid and typ alone", "see who signs it")
		}
		return pass("%s", name(t.alg))
	}),
	aToken("kid", "Is its key published?", withKeys(func(o *Observation, t *token) Result {
		if o.key(t.kid) == nil {
			var kids []string
			for _, k := range o.JWKs {
				kids = append(kids, k.KeyID)
			}
			return fail(fmt.Sprintf("unknown kid: the token has %.64q, the issuer publishes %s", t.kid, list(kids)),
				"no relying party can verify it", "its key was revoked, was removed after its time, or belongs to another issuer: get a new token")
		}
		return pass("%s", name(t.kid))
	})),
	aToken("algorithm", "Is its algorithm advertised, and that of the key?", withKeys(func(o *Observation, t *token) Result {
		k := o.key(t.kid)
		switch {
		case k == nil:
			return skip("the key is not published")
		case !slices.Contains(k.algorithms(), t.alg):
			return fail(fmt.Sprintf("wrong algorithm: the token has %.32q, and the key is for %s", t.alg, list(k.algorithms())), "relying parties refuse it", "sign with the algorithm of the key")
		case len(o.Metadata.Algorithms) > 0 && !slices.Contains(o.Metadata.Algorithms, t.alg):
			return fail(fmt.Sprintf("wrong algorithm: the token has %.32q, and the issuer advertises %s", t.alg, list(o.Metadata.Algorithms)), "go-oidc and others refuse it", "advertise it in the configuration")
		}
		return pass("%s", name(t.alg))
	})),
	aToken("signature", "Is the signature good?", withKeys(func(o *Observation, t *token) Result {
		k := o.key(t.kid)
		if k == nil || k.public == nil {
			return skip("the key is not published")
		}
		if t.signatureErr != nil {
			return fail("bad signature: it was not made by "+k.name()+" over this header and these claims", "no relying party accepts it", "get a new token, and see that nothing changes it on its way")
		}
		return pass("good")
	})),
	aToken("issuer", "Does it come from this issuer, byte for byte?", func(o *Observation, t *token) Result {
		if t.issuer != o.Options.Issuer {
			return fail(fmt.Sprintf("wrong issuer: want %q, the token is from %.600q", o.Options.Issuer, t.issuer), "relying parties compare it byte for byte", "set up trust in the issuer that stands in the tokens")
		}
		return pass("%s", t.issuer)
	}),
	aToken("times", "Is it valid now?", func(o *Observation, t *token) Result {
		const skew = 5 * time.Minute
		now := float64(o.Time.Unix())
		switch {
		case min(t.expiry, t.issued, t.notBefore) < 0 || max(t.expiry, t.issued, t.notBefore) > lastDate:
			return fail("exp, iat or nbf is no date", "relying parties make another date of it each", "see who signs it")
		case t.expiry == 0:
			return fail("exp is missing", "it would never expire", "get a bound token, as with `kubectl create token`")
		case t.expiry <= now:
			return fail(fmt.Sprintf("expired since %s", date(t.expiry)), "no relying party accepts it", "get a new one: kubelet renews the file of a projected volume")
		case t.issued == 0:
			return fail("iat is missing", "Google Cloud and others require it", "get a bound token, as with `kubectl create token`")
		case max(t.issued, t.notBefore) > now+skew.Seconds():
			return fail("valid from "+date(max(t.issued, t.notBefore)), "it is not valid yet", "set the clocks")
		}
		return pass("until %s", date(t.expiry))
	}),
	aToken("audience", "Is it for the right audience?", func(o *Observation, t *token) Result {
		want := o.Options.Audience
		switch {
		case len(t.audience) == 0 || t.audience[0] == "":
			return fail("aud is missing", "whoever checks it refuses the token, and whoever does not takes tokens that were meant for others", "ask for an audience")
		case want != "" && !slices.Contains(t.audience, want):
			return fail(fmt.Sprintf("wrong audience: want %q, the token is for %s", want, list(t.audience)), "a token that was made for somebody else must not pass", "ask for the right audience, in the projected volume or with `kubectl create token --audience`")
		}
		return pass("%s", list(t.audience))
	}),
	aToken("subject", "Is its subject a ServiceAccount?", func(o *Observation, t *token) Result {
		parts := strings.Split(t.subject, ":")
		if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" || parts[2] == "" || parts[3] == "" {
			return warn(fmt.Sprintf("sub is %.200q", t.subject), "tokens of ServiceAccounts have system:serviceaccount:NAMESPACE:NAME", "see whether that is the token that you meant")
		}
		return pass("%s", name(t.subject))
	}),
}, tokenRules()...)

func aToken(what, asks string, look func(*Observation, *token) Result) Check {
	return Check{ID: "token/" + what, Asks: asks, look: func(o *Observation) Result {
		switch {
		case o.token == nil:
			return Result{}
		case o.token.err != nil && what == "form":
			return fail("not a JSON Web Token: "+o.token.err.Error(), "that is no JSON Web Token (RFC 7519)", "give the token alone, as it stands in the file")
		case o.token.err != nil:
			return skip("it cannot be read")
		}
		return look(o, o.token)
	}}
}

// withKeys skips a look at a token's key if there is no key to look at.
func withKeys(look func(*Observation, *token) Result) func(*Observation, *token) Result {
	return func(o *Observation, t *token) Result {
		if len(o.JWKs) == 0 {
			return skip("no key to look at")
		}
		return look(o, t)
	}
}

// key is that with a kid, nil if there is none.
func (o *Observation) key(kid string) *JWK {
	for i := range o.JWKs {
		if k := &o.JWKs[i]; k.KeyID == kid && kid != "" {
			return k
		}
	}
	return nil
}

// lastDate is the end of the year 9999: RFC 3339 has no words for what comes
// after.
const lastDate = 253402300799

func date(seconds float64) string {
	return time.Unix(int64(min(max(seconds, 0), lastDate)), 0).UTC().Format(time.RFC3339)
}

// tokenRules are what relying parties want of a token beyond what all do.
func tokenRules() (checks []Check) {
	for _, p := range Parties {
		if p.MaxSubject == 0 && p.MaxAudiences == 0 && p.MaxAge == 0 && !p.AuthorizedParty && p.Audience == "" && p.Algorithms == nil {
			continue
		}
		c := aToken(p.Name, fmt.Sprintf("Does %s take such claims?", p.Title), func(o *Observation, t *token) Result { return takesClaims(o, t, p) })
		c.For = p.Name
		checks = append(checks, c)
	}
	return checks
}

func takesClaims(o *Observation, t *token, p Party) Result {
	_, authorized := t.claims["azp"]
	age := o.Time.Sub(time.Unix(int64(t.issued), 0))
	switch {
	case p.Algorithms != nil && !slices.Contains(p.Algorithms, t.alg):
		return fail(fmt.Sprintf("alg is %.32q", t.alg), fmt.Sprintf("%s takes %s", p.Title, list(p.Algorithms)), "sign with RS256, which everybody takes")
	case p.MaxSubject > 0 && len(t.subject) > p.MaxSubject:
		return fail(fmt.Sprintf("sub has %s", count(len(t.subject), "byte")), fmt.Sprintf("%s takes at most %d", p.Title, p.MaxSubject), "use shorter names; for Google Cloud another mapping of google.subject helps")
	case p.NoSpace && strings.ContainsFunc(t.subject, func(r rune) bool { return r <= ' ' }):
		return fail(fmt.Sprintf("sub is %.200q", t.subject), p.Title+" refuses white space", "use names without")
	case p.MaxAudiences > 0 && len(t.audience) > p.MaxAudiences:
		return fail(count(len(t.audience), "audience"), fmt.Sprintf("%s takes at most %d", p.Title, p.MaxAudiences), "ask for a token with one")
	case p.MaxAudience > 0 && slices.ContainsFunc(t.audience, func(a string) bool { return len(a) > p.MaxAudience }):
		return fail("an audience is too long", fmt.Sprintf("%s takes at most %d bytes", p.Title, p.MaxAudience), "ask for a shorter one")
	case p.AuthorizedParty && len(t.audience) > 1 && !authorized:
		return fail(count(len(t.audience), "audience")+" and no azp", p.Title+" needs azp where there are several", "ask for a token with one audience")
	case p.MaxAge > 0 && t.issued > 0 && age > p.MaxAge:
		return fail(fmt.Sprintf("issued %v ago", age.Round(time.Minute)), fmt.Sprintf("%s takes no token that is older than %v", p.Title, p.MaxAge), "get a new one, and ask for short ones")
	case p.Audience != "" && !slices.Contains(t.audience, p.Audience):
		return warn("for "+list(t.audience), fmt.Sprintf("%s takes it only if that was entered there as the audience; what is usual is %s", p.Title, p.Audience), "ask for a token with the audience "+p.Audience)
	}
	return pass("alg, aud and sub suit it")
}
