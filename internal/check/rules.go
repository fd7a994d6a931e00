package check

import (
	"fmt"
	"time"
)

// A rule is a limit that some relying parties have. Each of them gets a check
// for it.
type rule struct {
	name, asks string
	traits     Traits
	has        func(Party) bool
	look       func(*Observation, Party) Result
}

var rules = []rule{
	{name: "issuer", asks: "Does %s accept such an issuer?", look: acceptsIssuer,
		has: func(p Party) bool { return p.NoPort || p.MaxIssuer > 0 }},
	{name: "ca", asks: "Does %s trust the CA of the certificates?", look: trustsCA,
		has: func(p Party) bool { return p.PublicCA }},
	{name: "keys", asks: "Does %s support every key?", look: supportsKeys, traits: Traits{Keys: true},
		has: func(p Party) bool { return p.Algorithms != nil || p.MaxKeys > 0 || p.MaxRSAKeys > 0 }},
	{name: "bytes", asks: "Does %s read a key set of this size?", look: readsAll,
		has: func(p Party) bool { return p.MaxBytes > 0 }},
	{name: "wait", asks: "Does %s wait long enough for the answer?", look: waits, traits: Traits{Volatile: true},
		has: func(p Party) bool { return p.Timeout > 0 }},
	{name: "cached", asks: "Does %s ask again before a new key signs?", look: asksAgain,
		has: func(p Party) bool { return p.Cache > 0 }},
}

// partyChecks returns the checks for the rules of each relying party.
func partyChecks() (checks []Check) {
	for _, p := range Parties {
		for _, r := range rules {
			if r.has(p) {
				checks = append(checks, Check{ID: p.Name + "/" + r.name, Asks: fmt.Sprintf(r.asks, p.Title), For: p.Name,
					Traits: r.traits, look: func(o *Observation) Result { return r.look(o, p) }})
			}
		}
	}
	return checks
}

func acceptsIssuer(o *Observation, p Party) Result {
	if o.IssuerErr != nil {
		return skip("the issuer is not a URL")
	}
	u := o.Issuer.URL()
	if p.NoPort && u.Port() != "" {
		return fail("port "+u.Port(), p.Title+" refuses issuers with a port",
			"serve the documents on port 443, and use an issuer without a port")
	}
	if n := len(o.Options.Issuer); p.MaxIssuer > 0 && n > p.MaxIssuer {
		return fail(count(n, "character"), fmt.Sprintf("%s accepts at most %d", p.Title, p.MaxIssuer), "use a shorter issuer")
	}
	return pass("%s", count(len(o.Options.Issuer), "character"))
}

func trustsCA(o *Observation, p Party) Result {
	if o.Options.Roots == nil {
		return pass("a CA that this system trusts")
	}
	return fail("a private CA", p.Title+" trusts only public CAs", "get a certificate from a public CA; "+
		"Google Cloud also takes an uploaded key set (`oidc-provider trust gcp --help`)")
}

func supportsKeys(o *Observation, p Party) Result {
	if len(o.JWKs) == 0 {
		return skip("there are no keys")
	}
	var rsa int
	for i := range o.JWKs {
		k := &o.JWKs[i]
		if k.Type == "RSA" {
			rsa++
		}
		if p.Algorithms == nil || k.public == nil || !k.signs() || intersect(k.algorithms(), p.Algorithms) {
			continue
		}
		return fail(fmt.Sprintf("%s is for %s", k.name(), list(k.algorithms())),
			fmt.Sprintf("%s supports only %s", p.Title, list(p.Algorithms)), useRS256)
	}
	const do = "remove keys whose tokens have expired"
	switch {
	case p.MaxKeys > 0 && len(o.JWKs) > p.MaxKeys:
		return fail(count(len(o.JWKs), "key"), fmt.Sprintf("%s reads only the first %d", p.Title, p.MaxKeys), do)
	case p.MaxRSAKeys > 0 && rsa > p.MaxRSAKeys:
		return fail(count(rsa, "RSA key"), fmt.Sprintf("%s refuses every RSA token if there are more than %d",
			p.Title, p.MaxRSAKeys), do)
	}
	return pass("%s", count(len(o.JWKs), "key"))
}

// useRS256 is the advice for an unsupported algorithm.
const useRS256 = "sign with RS256, which all relying parties support"

func readsAll(o *Observation, p Party) Result {
	if o.KeySet.first() == nil {
		return skip("no key set")
	}
	n := len(o.KeySet.first().Body)
	if n > p.MaxBytes {
		return fail(count(n, "byte"), fmt.Sprintf("%s stops at %d", p.Title, p.MaxBytes), fewerKeys)
	}
	return pass("%s", count(n, "byte"))
}

func waits(o *Observation, p Party) Result {
	var slowest time.Duration
	for _, d := range []*Document{&o.Discovery, &o.KeySet} {
		for i := range d.Answers {
			slowest = max(slowest, d.Answers[i].Latency)
		}
	}
	if slowest == 0 {
		return skip("no answer")
	}
	seen := fmt.Sprintf("the slowest took %v", slowest.Round(100*time.Microsecond))
	if slowest > p.Timeout {
		return fail(seen, fmt.Sprintf("%s waits %v", p.Title, p.Timeout), serveFast)
	}
	return pass("%s", seen)
}

func asksAgain(o *Observation, p Party) Result {
	if p.Cache > o.Options.PublishAhead && !p.Refetch {
		return fail(fmt.Sprintf("it keeps the keys for %v, but keys are published only %v before they sign",
			p.Cache, o.Options.PublishAhead),
			p.Title+" refuses tokens of a new key until it asks again", "publish keys earlier")
	}
	return pass("it keeps the keys for %v", p.Cache)
}
