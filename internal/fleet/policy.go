package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/signer"
	"oidc-provider/rotation"
)

// setPolicy writes the configured policy into the ring. If the store accepts no
// writes, the server still publishes and signs under the policy in the ring.
func (m *managed) setPolicy(ctx context.Context) error {
	signs := m.cfg.SignerSocket != ""
	var before, after rotation.Policy
	var refused error
	_, err := m.handle.Update(ctx, func(r *rotation.Ring) (*rotation.Ring, error) {
		if refused = r.CheckIssuer(m.issuer); refused != nil {
			return r, refused
		}
		next, err := rotation.SetPolicy(r, m.cfg.Policy.Rotation(), time.Now())
		if err != nil {
			return r, err
		}
		if next != r {
			if err := m.mayWrite(r, false); err != nil {
				return r, err
			}
		}
		before, after = r.Policy, next.Policy
		if lifetime := time.Duration(after.MaxTokenLifetime); signs && lifetime < signer.MinTokenLifetime {
			refused = hint.Errorf(fmt.Sprintf("set {policy.maxTokenLifetime} to %v or more", signer.MinTokenLifetime),
				"the maximum token lifetime is %v, and kube-apiserver requires at least %v of its signer", lifetime, signer.MinTokenLifetime)
			return r, refused
		}
		return next, nil
	})
	switch {
	case refused != nil:
		return fmt.Errorf("store %s: %w", m.handle, refused)
	case errors.Is(err, rotation.ErrUnavailable) && before == rotation.Policy{}:
		return err // the ring was not even read
	case err != nil:
		m.Log.Error("the policy could not be written; the one in the ring stays in force", "err", err)
	case before != after:
		m.logPolicy(before, after)
	}
	return nil
}

func (m *managed) logPolicy(before, after rotation.Policy) {
	m.Log.Info("changed the policy of the ring", "from", before, "to", after)
	if m.cfg.SignerSocket != "" && after.MaxTokenLifetime < before.MaxTokenLifetime {
		m.Log.Warn("the maximum token lifetime is shorter: restart every kube-apiserver, which reads it only at its start, "+
			"or its requests for longer tokens are refused", "maxTokenLifetime", after.MaxTokenLifetime)
	}
	if after.PublishAhead < before.PublishAhead {
		m.Log.Info("publish-ahead is shorter: it fully applies to keys created after the longer one has passed, "+
			"since caches may hold what was published before", "publishAhead", after.PublishAhead)
	}
	if before.Algorithm != after.Algorithm || before.RSABits != after.RSABits {
		m.Log.Info("the next key is already published: the keys after it follow the new policy",
			"algorithm", after.Algorithm, "rsaBits", after.RSABits)
	}
}

func (m *managed) warnOfRing(r *rotation.Ring) {
	if w := m.handle.PlainWarning(r); w != "" {
		m.Log.Warn(w)
	}
	if w := m.handle.UnsignedWarning(r); w != "" {
		m.Log.Warn(w)
	}
	for _, w := range r.Policy.Warnings() {
		m.Log.Warn(w)
	}
	for _, err := range r.Unusable(r.At(time.Now())) {
		m.Log.Warn("a key of the ring cannot be used by relying parties", "err", err)
	}
	longer := max(time.Duration(m.Issuer.JWKSMaxAge), time.Duration(m.Issuer.DiscoveryMaxAge))
	if limit := r.Policy.MaxAgeLimit(); longer > limit {
		m.Log.Warn("max-age is lowered: caches must expire before a key signs that they do not contain",
			"limit", limit, "publishAhead", r.Policy.PublishAhead, "clockSkew", r.Policy.ClockSkew)
	}
}
