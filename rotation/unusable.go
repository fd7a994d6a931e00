package rotation

import (
	"fmt"
	"time"

	"oidc-provider/internal/hint"
)

// leftOut reports whether the key is left out of the key set because relying parties
// would refuse the set, and sound tokens with it. Only kube-apiserver receives it.
// A key that signs, or has signed here, stays: without it, no relying party could
// verify its tokens, while some do not mind it.
func (k *Key) leftOut() bool { return k.VerifyOnly && k.public.Check() != nil }

// Unusable returns an error for each key that many relying parties cannot use, such
// as an RSA key of 8192 bits, with what to do about it at a time from [Ring.At]. Such
// keys cannot enter a ring any more. An earlier version may have imported them.
func (r *Ring) Unusable(at time.Time) (errs []error) {
	for i := range r.Keys {
		k := &r.Keys[i]
		why := k.public.Check()
		if why == nil || !k.Published() {
			continue
		}
		revoke := fmt.Sprintf("run `oidc-provider keys revoke %s` when the tokens signed with it have expired or been renewed",
			k.KeyID)
		switch {
		case k.leftOut():
			errs = append(errs, hint.Errorf(revoke, "key %s is left out of the key set, and only kube-apiserver accepts "+
				"its tokens: %v", k.KeyID, why))
		case k.Phase(at) == Active || k.Phase(at) == Next:
			errs = append(errs, hint.Errorf("run `oidc-provider keys rotate`, and then "+revoke,
				"key %s signs, and many relying parties refuse the whole key set because of it: %v", k.KeyID, why))
		default:
			errs = append(errs, hint.Errorf(revoke,
				"key %s is retired, and many relying parties refuse the whole key set because of it: %v", k.KeyID, why))
		}
	}
	return errs
}
