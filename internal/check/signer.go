package check

import (
	"bytes"
	"fmt"
	"time"
)

// A Signer is what an external JWT signer said (k8s.io/externaljwt).
type Signer struct {
	// Address of its socket.
	Address string
	// Keys that the API server takes tokens of.
	Keys []SignerKey
	// MaxTokenLifetime is the longest that it signs for.
	MaxTokenLifetime time.Duration
}

// A SignerKey is one of a [Signer].
type SignerKey struct {
	KeyID string
	PKIX  []byte // DER
	// Excluded keys are not to stand in the key set.
	Excluded bool
}

// signerChecks compare what the signer uses with what is published.
var signerChecks = []Check{
	aSigner("published", "Is every key that the signer has in the key set?", func(o *Observation, s *Signer) Result {
		if len(o.JWKs) == 0 {
			return skip("no key to look at")
		}
		published := map[string][]byte{}
		for _, k := range o.Keys() {
			published[k.KeyID()] = k.PKIX()
		}
		if len(s.Keys) == 0 {
			return fail("it has no key", "kube-apiserver does not start without", "see what its log says")
		}
		result := pass("%s", count(len(s.Keys), "key"))
		for _, k := range s.Keys {
			der, there := published[k.KeyID]
			switch {
			case k.Excluded && there:
				result = warn(fmt.Sprintf("key %.64q is published, and the signer excludes it from discovery", k.KeyID), "relying parties take tokens of it", "take it out of the key set")
			case k.Excluded:
			case !there:
				return fail(fmt.Sprintf("key %.64q is not published", k.KeyID), "no relying party can verify tokens by it", "see that both are of one issuer, and what its log says of publishing")
			case !bytes.Equal(der, k.PKIX):
				return fail(fmt.Sprintf("key %.64q is published with another public key", k.KeyID), "no relying party can verify tokens by it", "see that both are of one issuer")
			}
		}
		return result
	}),
	aSigner("known", "Does the signer know every key in the key set?", func(o *Observation, s *Signer) Result {
		for _, k := range o.Keys() {
			known := false
			for _, other := range s.Keys {
				known = known || other.KeyID == k.KeyID()
			}
			if !known {
				return warn(fmt.Sprintf("key %.64q is published, and the signer does not have it", k.KeyID()), "the API server refuses tokens that relying parties accept", "fine if several clusters share the issuer; else see that both are of one")
			}
		}
		return pass("all of them")
	}),
	aSigner("lifetime", "Are its tokens short enough?", func(o *Observation, s *Signer) Result {
		gcp, _ := PartyByName("gcp")
		if s.MaxTokenLifetime > gcp.MaxAge {
			return warn(fmt.Sprintf("up to %v", s.MaxTokenLifetime), fmt.Sprintf("%s takes no token that is older than %v", gcp.Title, gcp.MaxAge), "set --max-token-lifetime 24h, or ask for short tokens").only(gcp.Name)
		}
		return pass("up to %v", s.MaxTokenLifetime)
	}),
}

func aSigner(what, asks string, look func(*Observation, *Signer) Result) Check {
	return Check{ID: "signer/" + what, Asks: asks, look: func(o *Observation) Result {
		if o.Options.Signer == nil {
			return Result{}
		}
		return look(o, o.Options.Signer)
	}}
}
