package check

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// A Signer is what an external JWT signer answered (k8s.io/externaljwt).
type Signer struct {
	// Address of its socket.
	Address string
	// Keys whose tokens the API server accepts.
	Keys []SignerKey
	// MaxTokenLifetime is the longest that it signs for.
	MaxTokenLifetime time.Duration
}

// A SignerKey is one of a [Signer].
type SignerKey struct {
	KeyID string
	PKIX  []byte // DER
	// Excluded keys must not be in the key set.
	Excluded bool
}

// signerChecks compare what the signer uses with what is published.
var signerChecks = []Check{
	aSigner("published", "Is every key of the signer published?", signerPublished),
	aSigner("known", "Does the signer have every published key?", signerKnown),
	aSigner("lifetime", "Are its tokens short-lived enough?", signerLifetime),
}

func signerPublished(o *Observation, s *Signer) Result {
	if len(o.JWKs) == 0 {
		return skip("there are no keys")
	}
	published := map[string][]byte{}
	for _, k := range o.Keys() {
		published[k.KeyID()] = k.PKIX()
	}
	if len(s.Keys) == 0 {
		return fail("the signer has no key", "kube-apiserver does not start without one", "read the signer's log")
	}
	const why = "no relying party can verify tokens signed with it"
	result := pass("%s", count(len(s.Keys), "key"))
	for _, k := range s.Keys {
		der, there := published[k.KeyID]
		switch {
		case k.Excluded && there:
			result = warn(fmt.Sprintf("key %.64q is published, but the signer excludes it from discovery", k.KeyID),
				"relying parties accept its tokens", "remove it from the key set")
		case k.Excluded:
		case !there:
			return fail(fmt.Sprintf("key %.64q is not published", k.KeyID), why,
				"make sure that signer and documents belong to the same issuer, and read the log for publishing errors")
		case !bytes.Equal(der, k.PKIX):
			return fail(fmt.Sprintf("key %.64q is published with another public key", k.KeyID), why,
				"make sure that signer and documents belong to the same issuer")
		}
	}
	return result
}

func signerKnown(o *Observation, s *Signer) Result {
	for _, k := range o.Keys() {
		if !slices.ContainsFunc(s.Keys, func(other SignerKey) bool { return other.KeyID == k.KeyID() }) {
			return warn(fmt.Sprintf("key %.64q is published, but the signer does not have it", k.KeyID()),
				"the API server refuses tokens that relying parties accept",
				"nothing if several clusters share the issuer; else make sure that both belong to the same issuer")
		}
	}
	return pass("all of them")
}

func signerLifetime(_ *Observation, s *Signer) Result {
	gcp, _ := PartyByName("gcp")
	if s.MaxTokenLifetime > gcp.MaxAge {
		return warn(fmt.Sprintf("up to %v", s.MaxTokenLifetime),
			fmt.Sprintf("%s refuses tokens that are older than %v", gcp.Title, gcp.MaxAge),
			"set {policy.maxTokenLifetime} to 24h, or request short-lived tokens").only(gcp.Name)
	}
	return pass("up to %v", s.MaxTokenLifetime)
}

func aSigner(what, asks string, look func(*Observation, *Signer) Result) Check {
	return Check{ID: "signer/" + what, Asks: asks, look: func(o *Observation) Result {
		if o.Options.Signer == nil {
			return Result{}
		}
		return look(o, o.Options.Signer)
	}}
}
