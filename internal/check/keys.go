package check

import (
	"crypto/rsa"
	"fmt"
	"maps"
	"slices"
	"strings"

	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// keyChecks look at each JWK of the set.
var keyChecks = []Check{
	{ID: "jwks/json", Asks: "Is it one JSON object with an array of keys, with no member twice?", look: func(o *Observation) Result {
		const do = "serve a JWK Set (RFC 7517, section 5)"
		switch {
		case o.KeySet.Body == nil:
			return skip("no key set to look at")
		case o.keySetErr != nil:
			return fail(o.keySetErr.Error(), "relying parties cannot read it, or read different things in it", do)
		case len(o.JWKs) == 0:
			return fail("there is no key in it", "no token can be verified", "publish the public halves of the keys that sign")
		}
		return pass("%s", count(len(o.JWKs), "key"))
	}},
	eachKey("private", "Is every key public alone?", func(k *JWK) Result {
		for _, member := range slices.Sorted(maps.Keys(k.members)) {
			if jwks.IsPrivate(member) {
				return fail(fmt.Sprintf("%s has the private member %q", k.name(), member), "whoever can read the key set can sign tokens",
					"take the key out of use at once, and publish public halves only")
			}
		}
		return pass("no private member")
	}),
	eachKey("kty", "Is every key of a type and on a curve that is known?", func(k *JWK) Result {
		const why = "Vault and kube-apiserver refuse the whole set for one key that they do not understand"
		switch {
		case k.members == nil:
			return fail(fmt.Sprintf("%s is no JSON object", k.name()), why, "leave it out")
		case k.Type != "RSA" && k.Type != "EC" && k.Type != "OKP":
			return fail(fmt.Sprintf("%s has kty %.32q", k.name(), k.Type), why, "publish RSA or EC keys")
		case k.Type == "EC" && !slices.Contains([]string{"P-256", "P-384", "P-521"}, k.Curve), k.Type == "OKP" && k.Curve != "Ed25519":
			return fail(fmt.Sprintf("%s is on the curve %.32q", k.name(), k.Curve), why, "use P-256, P-384 or P-521")
		}
		return pass("RSA, EC or OKP")
	}),
	// go-jose refuses RSA keys that are too large to be verified with, too.
	eachKey("material", "Are the numbers of every key a key?", func(k *JWK) Result {
		if k.err != nil && k.members != nil {
			return fail(fmt.Sprintf("%s: %s", k.name(), strings.TrimPrefix(k.err.Error(), "go-jose/go-jose: ")), "no token by it can be verified, and Vault and kube-apiserver refuse the whole set", "publish the key anew from its public half")
		}
		return pass("every key can be read")
	}),
	eachKey("kid", "Does every key have a kid?", func(k *JWK) Result {
		if k.KeyID == "" {
			return fail(fmt.Sprintf("%s has no kid", k.name()), "AWS requires it, and every relying party finds the key of a token by it", "publish the kid that stands in the tokens")
		}
		return pass("every key has one")
	}),
	{ID: "jwks/unique", Asks: "Does every kid name one key?", look: needsKeys(func(o *Observation) Result {
		seen := map[string]bool{}
		for _, k := range o.JWKs {
			if k.KeyID != "" && seen[k.KeyID] {
				return fail(fmt.Sprintf("kid %.64q stands twice", k.KeyID), "which of the keys counts differs from one relying party to the next", "publish every key once, under a kid of its own")
			}
			seen[k.KeyID] = true
		}
		return pass("no kid stands twice")
	})},
	{ID: "jwks/use", Asks: "Is every key for signatures?", look: needsKeys(func(o *Observation) Result {
		i := slices.IndexFunc(o.JWKs, func(k JWK) bool { return !k.signs() })
		if i < 0 {
			return pass("sig, or not said")
		}
		r := fail(fmt.Sprintf("%s has use %.32q", o.JWKs[i].name(), o.JWKs[i].Use), "AWS fails on it, and others pass the key over", `make it "sig", or leave the key out`)
		if slices.ContainsFunc(o.JWKs, func(k JWK) bool { return k.signs() }) {
			r = r.only("aws")
		}
		return r
	})},
	eachKey("alg", "Does the algorithm of every key fit its type?", func(k *JWK) Result {
		if _, there := k.members["alg"]; there && k.signs() && !k.fits(k.Algorithm) {
			return fail(fmt.Sprintf("%s has alg %.32q, and is a key for %s", k.name(), k.Algorithm, list(k.algorithms())), "relying parties refuse its tokens", "publish the algorithm that the key signs with")
		}
		return pass("every one fits, or is not said")
	}),
	eachKey("strength", "Is every key strong enough?", func(k *JWK) Result {
		key, ok := k.public.(*rsa.PublicKey)
		if !ok {
			return pass("strong enough")
		}
		switch bits := key.N.BitLen(); {
		case bits < 2048:
			return fail(fmt.Sprintf("%s has %d bits", k.name(), bits), "RS256 needs 2048 (RFC 7518, section 3.3), and Go and Java refuse less", "rotate to a key of 2048 bits")
		case key.E < 3 || key.E%2 == 0:
			return fail(fmt.Sprintf("%s has the exponent %d", k.name(), key.E), "that is no RSA key", "rotate to a key with the exponent 65537")
		case key.E != 65537:
			return warn(fmt.Sprintf("%s has the exponent %d", k.name(), key.E), "some libraries take 65537 only", "rotate to a key with that exponent")
		}
		return pass("strong enough")
	}),
	eachKey("members", "Is every key free of members that relying parties stumble over?", func(k *JWK) Result {
		if _, there := k.members["key_ops"]; there {
			return fail(k.name()+" has key_ops", "AWS fails on it", "leave it out").only("aws")
		}
		for _, member := range []string{"x5c", "x5t", "x5t#S256", "x5u"} {
			if _, there := k.members[member]; there {
				return warn(fmt.Sprintf("%s has %s", k.name(), member), "Google Cloud refuses it in an uploaded key set, and lua-resty-openidc prefers the certificate to the key", "leave it out")
			}
		}
		return pass("none")
	}),
	{ID: "jwks/count", Asks: "Are there not too many keys?", look: needsKeys(func(o *Observation) Result {
		n := len(o.JWKs)
		const why = "AWS fails above 100 RSA keys, Entra ID reads the first 100, and every verification carries them all"
		switch do := "remove keys whose tokens have expired"; {
		case n > rotation.TooManyKeys:
			return fail(count(n, "key"), why, do)
		case n > rotation.ManyKeys:
			return warn(count(n, "key"), why, do)
		}
		return pass("%s", count(n, "key"))
	})},
}

// eachKey asks the same of every key, and has the first bad answer.
func eachKey(what, asks string, look func(*JWK) Result) Check {
	return Check{ID: "jwks/" + what, Asks: asks, look: needsKeys(func(o *Observation) (worst Result) {
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
