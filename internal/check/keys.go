package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"maps"
	"slices"
	"strings"

	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// refuseSet is why a single bad key is worse than a missing one.
const refuseSet = "Vault and kube-apiserver refuse the whole key set because of one key that they cannot read"

// keyChecks look at each JWK of the set.
var keyChecks = []Check{
	{ID: "jwks/json", Asks: "Is it one JSON object with an array of keys, with no member twice?", look: keySetJSON,
		Traits: Traits{Decisive: true, Keys: true}},
	eachKey("private", "Does every key have only public members?", publicOnly),
	eachKey("kty", "Is every key of a known type and on a known curve?", knownType),
	eachKey("numbers", "Are the numbers of every key written as RFC 7518 says?", encodings),
	// go-jose also refuses RSA keys that are too large to verify with.
	eachKey("material", "Do the numbers of every key make a valid key?", material),
	eachKey("kid", "Does every key have a kid?", hasKID),
	{ID: "jwks/unique", Asks: "Does every kid name one key?", look: needsKeys(uniqueKIDs), Traits: Traits{Keys: true}},
	{ID: "jwks/use", Asks: "Is every key for signatures?", look: needsKeys(forSignatures), Traits: Traits{Keys: true}},
	eachKey("alg", "Does the algorithm of every key fit its type?", fitting),
	eachKey("strength", "Is every key strong enough?", strength),
	eachKey("es512", "Is every key of a curve that all libraries can read?", readableCurve),
	eachKey("members", "Is every key free of members that break relying parties?", members),
	{ID: "jwks/count", Asks: "Are there few enough keys?", look: needsKeys(fewKeys), Traits: Traits{Keys: true}},
}

func keySetJSON(o *Observation) Result {
	switch {
	case o.KeySet.Body == nil:
		return skip("no key set")
	case o.keySetErr != nil:
		return fail(o.keySetErr.Error(), "relying parties cannot read it, or each reads something else in it",
			"serve a JWK Set (RFC 7517, section 5)")
	case len(o.JWKs) == 0:
		return fail("it contains no keys", "no token can be verified", "publish the public halves of the keys that sign")
	}
	return pass("%s", count(len(o.JWKs), "key"))
}

func publicOnly(k *JWK) Result {
	for _, member := range slices.Sorted(maps.Keys(k.members)) {
		if jwks.IsPrivate(member) {
			return fail(fmt.Sprintf("%s has the private member %q", k.name(), member),
				"anyone who can read the key set can sign tokens",
				"stop using the key at once, and publish public halves only")
		}
	}
	return pass("no private member")
}

func knownType(k *JWK) Result {
	curves := []string{"P-256", "P-384", "P-521"}
	switch {
	case k.members == nil:
		return fail(k.name()+" is not a JSON object", refuseSet, "remove it")
	case k.Type != "RSA" && k.Type != "EC" && k.Type != "OKP":
		return fail(fmt.Sprintf("%s has kty %.32q", k.name(), k.Type), refuseSet, "publish RSA or EC keys")
	case k.Type == "EC" && !slices.Contains(curves, k.Curve), k.Type == "OKP" && k.Curve != "Ed25519":
		return fail(fmt.Sprintf("%s is on the curve %.32q", k.name(), k.Curve), refuseSet, "use P-256, P-384 or P-521")
	}
	return pass("RSA, EC or OKP")
}

func material(k *JWK) Result {
	if k.err != nil && k.members != nil {
		return fail(fmt.Sprintf("%s: %s", k.name(), strings.TrimPrefix(k.err.Error(), "go-jose/go-jose: ")),
			"no token signed with it can be verified, and "+refuseSet, "publish the key again, from its public half")
	}
	return pass("every key can be read")
}

func hasKID(k *JWK) Result {
	if k.KeyID == "" {
		return fail(k.name()+" has no kid", "AWS requires it, and every relying party finds the key of a token with it",
			"publish the kid that the tokens have")
	}
	return pass("every key has one")
}

func uniqueKIDs(o *Observation) Result {
	seen := map[string]bool{}
	for _, k := range o.JWKs {
		if k.KeyID != "" && seen[k.KeyID] {
			return fail(fmt.Sprintf("two keys have the kid %.64q", k.KeyID),
				"which of the keys is used differs from one relying party to the next",
				"publish every key once, with its own kid")
		}
		seen[k.KeyID] = true
	}
	return pass("no kid occurs twice")
}

func forSignatures(o *Observation) Result {
	i := slices.IndexFunc(o.JWKs, func(k JWK) bool { return !k.signs() })
	if i < 0 {
		return pass("use is sig or missing")
	}
	r := fail(fmt.Sprintf("%s has use %.32q", o.JWKs[i].name(), o.JWKs[i].Use),
		"AWS refuses the key set, and other relying parties ignore the key", `set use to "sig", or remove the key`)
	if slices.ContainsFunc(o.JWKs, func(k JWK) bool { return k.signs() }) {
		r = r.only("aws")
	}
	return r
}

func fitting(k *JWK) Result {
	if _, there := k.members["alg"]; there && k.signs() && !k.fits(k.Algorithm) {
		return fail(fmt.Sprintf("%s has alg %.32q, but its type is for %s", k.name(), k.Algorithm, list(k.algorithms())),
			"relying parties refuse its tokens", "publish the algorithm that the key signs with")
	}
	return pass("alg fits or is missing")
}

func readableCurve(k *JWK) Result {
	if key, ok := k.public.(*ecdsa.PublicKey); ok && key.Curve == elliptic.P521() {
		return warn(k.name()+" is on P-521, for ES512",
			"jsonwebtoken for Rust refuses the whole key set because of it, the tokens of other keys too", "sign with ES256 or RS256")
	}
	return pass("no key for ES512")
}

func strength(k *JWK) Result {
	key, ok := k.public.(*rsa.PublicKey)
	if !ok {
		return pass("strong enough")
	}
	switch bits := key.N.BitLen(); {
	case bits < 2048:
		return fail(fmt.Sprintf("%s has %d bits", k.name(), bits),
			"RS256 needs 2048 (RFC 7518, section 3.3), and Go and Java refuse less", "rotate to a key of 2048 bits")
	case key.E < 3 || key.E%2 == 0:
		return fail(fmt.Sprintf("%s has the exponent %d", k.name(), key.E), "it is not a valid RSA key",
			"rotate to a key with the exponent 65537")
	case key.E != 65537:
		return warn(fmt.Sprintf("%s has the exponent %d", k.name(), key.E), "some libraries accept only 65537",
			"rotate to a key with that exponent")
	}
	return pass("strong enough")
}

func members(k *JWK) Result {
	if _, there := k.members["key_ops"]; there {
		return fail(k.name()+" has key_ops", "AWS refuses the key set", "remove it").only("aws")
	}
	for _, member := range []string{"x5c", "x5t", "x5t#S256", "x5u"} {
		if _, there := k.members[member]; there {
			return warn(fmt.Sprintf("%s has %s", k.name(), member), "Google Cloud refuses it in an uploaded key set, "+
				"and lua-resty-openidc uses the certificate instead of the key", "remove it")
		}
	}
	return pass("none")
}

func fewKeys(o *Observation) Result {
	n := len(o.JWKs)
	const why = "AWS fails with more than 100 RSA keys, Entra ID reads only the first 100, and every relying party " +
		"fetches all of them"
	switch do := "remove keys whose tokens have expired"; {
	case n > rotation.TooManyKeys:
		return fail(count(n, "key"), why, do)
	case n > rotation.ManyKeys:
		return warn(count(n, "key"), why, do)
	}
	return pass("%s", count(n, "key"))
}

// eachKey asks the same question about every key, and returns the first failure,
// or else the last warning.
func eachKey(what, asks string, look func(*JWK) Result) Check {
	return Check{ID: "jwks/" + what, Asks: asks, Traits: Traits{Keys: true}, look: needsKeys(
		func(o *Observation) (worst Result) {
			for i := range o.JWKs {
				r := look(&o.JWKs[i])
				if r.Status == Fail {
					return r
				}
				if i == 0 || r.Status == Warn {
					worst = r
				}
			}
			return worst
		})}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
