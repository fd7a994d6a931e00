package check

import (
	"fmt"
	"time"
)

// A rule is a limit that some relying parties have: it makes a check for each
// of them.
type rule struct {
	name, asks string
	has        func(Party) bool
	look       func(*Observation, Party) Result
}

var rules = []rule{
	{"issuer", "Does %s take such an issuer?", func(p Party) bool { return p.NoPort || p.MaxIssuer > 0 }, takesIssuer},
	{"ca", "Does %s trust the CA of the certificates?", func(p Party) bool { return p.PublicCA }, takesCA},
	{"keys", "Does %s understand every key?", func(p Party) bool { return p.Algorithms != nil || p.MaxKeys > 0 || p.MaxRSAKeys > 0 }, takesKeys},
	{"bytes", "Does %s read so much?", func(p Party) bool { return p.MaxBytes > 0 }, takesBytes},
	{"wait", "Does %s wait for so long?", func(p Party) bool { return p.Timeout > 0 }, waits},
	{"cached", "Does %s ask again before a new key signs?", func(p Party) bool { return p.Cache > 0 }, asksAgain},
}

// partyChecks are the rules of each relying party.
func partyChecks() (checks []Check) {
	for _, p := range Parties {
		for _, r := range rules {
			if r.has(p) {
				checks = append(checks, Check{ID: p.Name + "/" + r.name, Asks: fmt.Sprintf(r.asks, p.Title), For: p.Name,
					look: func(o *Observation) Result { return r.look(o, p) }})
			}
		}
	}
	return checks
}

func takesIssuer(o *Observation, p Party) Result {
	if o.IssuerErr != nil {
		return skip("no issuer to look at")
	}
	u := o.Issuer.URL()
	if p.NoPort && u.Port() != "" {
		return fail("port "+u.Port(), p.Title+" takes no port", "serve the documents on port 443, and make an issuer without a port")
	}
	if n := len(o.Options.Issuer); p.MaxIssuer > 0 && n > p.MaxIssuer {
		return fail(count(n, "character"), fmt.Sprintf("%s takes at most %d", p.Title, p.MaxIssuer), "use a shorter issuer")
	}
	return pass("%s", count(len(o.Options.Issuer), "character"))
}

func takesCA(o *Observation, p Party) Result {
	if o.Options.Roots == nil {
		return pass("the system's")
	}
	return fail("a CA of your own", p.Title+" trusts public CAs only", "get a certificate from a public CA; Google Cloud also takes an uploaded key set (`oidc-provider trust gcp --help`)")
}

func takesKeys(o *Observation, p Party) Result {
	if len(o.JWKs) == 0 {
		return skip("no key to look at")
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
		return fail(fmt.Sprintf("%s is for %s", k.name(), list(k.algorithms())), fmt.Sprintf("%s takes %s", p.Title, list(p.Algorithms)), "sign with RS256, which everybody takes")
	}
	const do = "remove keys whose tokens have expired"
	switch {
	case p.MaxKeys > 0 && len(o.JWKs) > p.MaxKeys:
		return fail(count(len(o.JWKs), "key"), fmt.Sprintf("%s reads the first %d", p.Title, p.MaxKeys), do)
	case p.MaxRSAKeys > 0 && rsa > p.MaxRSAKeys:
		return fail(count(rsa, "RSA key"), fmt.Sprintf("%s fails for every RSA token above %d", p.Title, p.MaxRSAKeys), do)
	}
	return pass("%s", count(len(o.JWKs), "key"))
}

func takesBytes(o *Observation, p Party) Result {
	if o.KeySet.first() == nil {
		return skip("no key set to look at")
	}
	n := len(o.KeySet.first().Body)
	if n > p.MaxBytes {
		return fail(count(n, "byte"), fmt.Sprintf("%s stops at %d", p.Title, p.MaxBytes), "publish fewer keys, without certificates")
	}
	return pass("%s", count(n, "byte"))
}

func waits(o *Observation, p Party) Result {
	var slowest time.Duration
	for _, d := range []*Document{&o.Configuration, &o.KeySet} {
		for i := range d.Answers {
			slowest = max(slowest, d.Answers[i].Latency)
		}
	}
	if slowest == 0 {
		return skip("no answer to look at")
	}
	seen := fmt.Sprintf("the slowest took %v", slowest.Round(100*time.Microsecond))
	if slowest > p.Timeout {
		return fail(seen, fmt.Sprintf("%s waits %v", p.Title, p.Timeout), "serve it from memory, near to who asks")
	}
	return pass("%s", seen)
}

func asksAgain(o *Observation, p Party) Result {
	if p.Cache > o.Options.PublishAhead && !p.Refetch {
		return fail(fmt.Sprintf("it keeps the keys for %v, and they are published %v ahead", p.Cache, o.Options.PublishAhead),
			p.Title+" refuses new tokens until it asks again", "publish keys earlier")
	}
	return pass("it keeps the keys for %v", p.Cache)
}
