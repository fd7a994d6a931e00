package rotation

import (
	"fmt"
	"slices"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// This file has the ways in which keys enter a ring.

// Generate makes a new key for a policy. It is an argument of the functions of
// this package, which have no source of randomness of their own.
type Generate func(Policy) (*jwks.SigningKey, error)

// GenerateKey is the [Generate] for everything but tests.
func GenerateKey(p Policy) (*jwks.SigningKey, error) { return jwks.Generate(p.Algorithm, p.RSABits) }

// New returns a ring with new keys. The first key is active at once. No relying
// party can have it: one that has fetched the key set of this issuer earlier
// may have to fetch it again.
func New(issuer string, p Policy, now time.Time, generate Generate) (*Ring, error) {
	return newRing(issuer, p, nil, now, generate)
}

// ExtendedLifetime is the lifetime that kube-apiserver gives to the tokens of
// Pods by default (--service-account-extend-token-expiration).
const ExtendedLifetime = 365 * 24 * time.Hour

// NewFrom returns a ring whose first key has signed tokens elsewhere, valid for
// up to lifetime: the key stays published for that long after it has retired.
// See [New] for the rest.
func NewFrom(
	key *jwks.SigningKey, lifetime time.Duration, issuer string, p Policy, now time.Time, generate Generate,
) (*Ring, error) {
	r, err := newRing(issuer, p, key, now, generate)
	if err != nil {
		return nil, err
	}
	r.Keys[0].outlive(lifetime, r.Policy)
	return r, nil
}

// newRing returns a ring whose first key is active, or generated if that is nil.
func newRing(issuer string, p Policy, active *jwks.SigningKey, now time.Time, generate Generate) (*Ring, error) {
	p = p.WithDefaults()
	if err := p.Validate(); err != nil {
		return nil, err
	}
	r := &Ring{Version: ringVersion, Issuer: issuer, Policy: p}
	r, now = r.begin(now)
	if active == nil {
		var err error
		if active, err = generate(p); err != nil {
			return nil, err
		}
	}
	if err := r.add(active, now); err != nil {
		return nil, err
	}
	r.Keys[0].SignFrom, r.Keys[0].Forced = now, true
	return r, r.ensureStandby(now, generate)
}

// outlive extends the retention of a key whose tokens are valid for lifetime.
func (k *Key) outlive(lifetime time.Duration, p Policy) {
	k.Retention = max(k.Retention, Duration(lifetime)+p.ClockSkew)
}

// ImportSigning does for an existing ring what [NewFrom] does for a new one: key
// is active from now on. It refuses a ring that a server has published, because
// relying parties may have its keys and cannot have this one. The public half of
// key can be imported there, so that tokens that it signed elsewhere verify. The
// key that was active before retires.
func ImportSigning(r *Ring, key *jwks.SigningKey, lifetime time.Duration, now time.Time) (*Ring, error) {
	if err := r.CheckClock(now); err != nil {
		return r, err
	}
	next, now := r.begin(now)
	if next.inUse(now) {
		return r, hint.Errorf("import the public half, so that tokens signed with it verify, "+
			"or start a new ring in another store",
			"a private key can only be the first key of a ring, and this ring is in use")
	}
	if err := next.add(key, now); err != nil {
		return r, err
	}
	imported := &next.Keys[len(next.Keys)-1]
	imported.Forced = true
	imported.outlive(lifetime, next.Policy)
	active := next.Active(now)
	next.withoutNotice(active, now)
	activate(active, imported, now)
	return next, nil
}

// ImportVerifying publishes a key whose private half is elsewhere, so that
// tokens signed with it verify. The key stays in the ring until it is revoked.
// With exclude, only kube-apiserver receives it, which suits the keys of legacy
// Secret tokens (exclude_from_oidc_discovery of the ExternalJWTSigner API).
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

func (r *Ring) add(key *jwks.SigningKey, now time.Time) error {
	return r.append(Key{signing: key, public: key.PublicKey}, now)
}

// append adds a key to the ring. Every new key passes through it.
func (r *Ring) append(k Key, now time.Time) error {
	kid := k.public.KeyID()
	if r.find(kid) != nil {
		return fmt.Errorf("key %s is in the ring already", kid)
	}
	if slices.Contains(r.Removed, kid) {
		return fmt.Errorf("key %s was in the ring before and was removed: a key never returns", kid)
	}
	k.KeyID, k.Algorithm, k.Public = kid, k.public.Algorithm(), k.public.PKIX()
	k.Created, k.PublishAt = now, now
	k.Retention = r.Policy.retention()
	k.PublishAhead = r.lead(now)
	r.Keys = append(r.Keys, k)
	return nil
}
