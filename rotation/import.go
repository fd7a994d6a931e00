package rotation

import (
	"errors"
	"time"

	"oidc-provider/jwks"
)

// ExtendedLifetime is how long kube-apiserver lets the tokens of Pods live
// unless it is told otherwise (--service-account-extend-token-expiration).
const ExtendedLifetime = 365 * 24 * time.Hour

// NewFrom is a ring that begins with a key which has signed elsewhere, tokens
// that live for up to lifetime: the key stays published for as long after it
// has retired. See [New] for the rest.
func NewFrom(key *jwks.SigningKey, lifetime time.Duration, issuer string, p Policy, now time.Time, generate Generate) (*Ring, error) {
	r, err := newRing(issuer, p, key, now, generate)
	if err != nil {
		return nil, err
	}
	r.Keys[0].outlive(lifetime, r.Policy)
	return r, nil
}

func (k *Key) outlive(lifetime time.Duration, p Policy) {
	k.Retention = max(k.Retention, Duration(lifetime)+p.ClockSkew)
}

// ImportSigning is [NewFrom] for a ring that exists: it lets key sign from now
// on in a ring that no server has published yet. A ring that relying parties
// may know already does not take a key which they cannot know: its public half
// can be imported, so that tokens it signed elsewhere verify. The key that was
// active before retires.
func ImportSigning(r *Ring, key *jwks.SigningKey, lifetime time.Duration, now time.Time) (*Ring, error) {
	if err := r.CheckClock(now); err != nil {
		return r, err
	}
	next, now := r.begin(now)
	if next.inUse(now) {
		return r, errors.New("a private key can only begin a ring, and this one is in use (hint: import the public half, so that tokens signed by the key verify, or begin a new ring in another store)")
	}
	if err := next.add(key, now); err != nil {
		return r, err
	}
	imported := &next.Keys[len(next.Keys)-1]
	imported.Forced = true
	imported.outlive(lifetime, next.Policy)
	active := next.Active(now)
	next.withoutNotice(active, now)
	handOver(active, imported, now)
	return next, nil
}

// ImportVerifying publishes a key whose private half is elsewhere, so that
// tokens by it verify. It stays until it is revoked. With exclude it is shown
// to kube-apiserver only, for the keys of legacy Secret tokens
// (exclude_from_oidc_discovery of the ExternalJWTSigner API).
func ImportVerifying(r *Ring, key jwks.PublicKey, exclude bool, now time.Time) (*Ring, error) {
	if err := r.CheckClock(now); err != nil {
		return r, err
	}
	next, now := r.begin(now)
	k := Key{public: key, VerifyOnly: true, ExcludeFromDiscovery: exclude}
	if err := next.append(k, now); err != nil {
		return r, err
	}
	return next, nil
}
