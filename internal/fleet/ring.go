package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/kube"
	"oidc-provider/internal/store"
	"oidc-provider/internal/store/secret"
	"oidc-provider/internal/witness"
	"oidc-provider/rotation"
)

// openRing reads the ring, and creates it if that is configured. It writes nothing
// before every check that could refuse the ring has passed.
func (m *managed) openRing(ctx context.Context) (*rotation.Rotator, error) {
	if m.handle == nil {
		m.begin("opening the store %s", nonEmpty(append([]string{m.cfg.Store}, m.cfg.AgeIdentities...)...))
		handle, err := store.Open(m.cfg.Config)
		if err != nil {
			return nil, err
		}
		m.handle = handle
	}
	m.begin("reading the store %s", m.cfg.Store)
	if err := m.checkSecret(ctx); err != nil {
		return nil, err
	}
	// While the store is unavailable, nothing else is asked.
	if err := m.readFirst(ctx); err != nil {
		return nil, err
	}
	if err := store.CheckOwner(m.cfg.Store); err != nil {
		return nil, fmt.Errorf("store %s: %w", m.handle, err)
	}
	m.begin("asking witnesses, and reading %s", nonEmpty(m.cfg.WitnessCAFile, m.cfg.RollbackState))
	seen, state, err := m.seen(ctx)
	if err != nil {
		return nil, err
	}
	m.begin("reading the store %s", m.cfg.Store)
	// What others have seen was in the ring before: read the ring after them.
	ring, created, err := m.findRing(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.checkRing(ctx, ring, seen, created); err != nil {
		return nil, err
	}
	if created {
		if err := m.mayWrite(ring, true); err != nil {
			return nil, err
		}
		if err := m.handle.Create(ctx, ring); err != nil {
			return nil, err
		}
		m.Log.Info("the store was empty: created the first signing keys of this issuer", "store", m.cfg.Store)
	}
	if !m.cfg.PublishOnly {
		if err := m.checkOpens(ctx, ring); err != nil {
			return nil, err
		}
		if len(m.doubts) == 0 {
			if err := m.setPolicy(ctx); err != nil {
				return nil, err
			}
		}
	}
	return m.openRotator(ctx, state, created)
}

// readFirst returns an error if the store cannot be read, unless it is empty.
func (m *managed) readFirst(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if _, err := m.handle.Read(ctx); err != nil && !errors.Is(err, rotation.ErrEmpty) {
		return err
	}
	return nil
}

func (m *managed) openRotator(ctx context.Context, state rotation.Store, created bool) (*rotation.Rotator, error) {
	rotator, err := rotation.Open(ctx, rotation.Config{
		Store: m.handle.Store, Access: m.handle.Access, PublishOnly: m.cfg.PublishOnly, Issuer: m.issuer,
		Witnessed: m.doubts, RollbackState: state, Publishers: []rotation.Publisher{m.Documents}, Clock: m.evidence(),
		Log: m.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", m.handle, err)
	}
	if m.Predecessor != nil && !m.cfg.PublishOnly {
		// The predecessor may still be able to sign, as while a KMS plugin is
		// unavailable.
		if _, err := rotator.Signer(time.Now()); err != nil {
			return nil, fmt.Errorf("it could not sign: %w", err)
		}
	}
	m.Predecessor = nil
	ring := rotator.View().Ring()
	m.warnOfRing(ring)
	if m.Opened != nil {
		m.Opened(ring, created)
	}
	return rotator, nil
}

// seen returns what witnesses publish and what this server has seen of the ring,
// and the store of the latter, if rollback state is configured.
func (m *managed) seen(ctx context.Context) (seen []rotation.Seen, state rotation.Store, err error) {
	level := slog.LevelInfo // the default witness may be the server that is started here
	if len(m.cfg.Witnesses) > 0 {
		level = slog.LevelWarn
	}
	answers, err := m.witnesses().AskDated(ctx, m.issuer, func(url string, err error) {
		if m.waiting.Load() != nil {
			return // it was logged at the first attempt
		}
		m.Log.Log(ctx, level, "the ring is not compared with the keys of a witness", "witness", url, "err", err)
	})
	for _, a := range answers {
		seen = append(seen, a.Seen)
	}
	m.noteDates(answers, m.witnesses().Named())
	if err != nil || m.cfg.RollbackState == "" {
		return seen, nil, err
	}
	if err := store.CheckOwner(m.cfg.RollbackState); err != nil {
		return nil, nil, fmt.Errorf("rollback state: %w", err)
	}
	state = store.NewFile(m.cfg.RollbackState)
	recalled, err := rotation.ReadRollbackState(ctx, state)
	if err != nil {
		return nil, nil, err
	}
	if recalled != nil {
		seen = append(seen, *recalled)
	}
	return seen, state, nil
}

// findRing reads the ring. If there is none, it returns a new one, which is not
// written yet, where that is configured.
func (m *managed) findRing(ctx context.Context) (ring *rotation.Ring, created bool, err error) {
	ring, err = m.handle.Read(ctx)
	switch {
	case err == nil:
		return ring, false, ring.CheckIssuer(m.issuer)
	case !errors.Is(err, rotation.ErrEmpty):
		return nil, false, err
	case m.cfg.PublishOnly:
		return nil, false, fmt.Errorf("%w, and a server that only publishes creates none", err)
	case !m.cfg.Create || m.Predecessor != nil:
		return nil, false, hint.Errorf(
			fmt.Sprintf("check that {store} names the right path or prefix; if the store is really new, run `oidc-provider "+
				"keys init --store %s --issuer %s`",
				m.cfg.Store, m.issuer),
			"store %s: %w, and none is created in a store that was named", m.handle, rotation.ErrEmpty)
	}
	now := time.Now()
	ring, err = rotation.New(m.issuer, m.cfg.Policy.Rotation(), now, rotation.GenerateKey)
	if err == nil && m.handle.Sealer.HasIdentity() {
		ring, err = rotation.Enroll(ctx, ring, m.handle.Sealer, nil, now)
	}
	return ring, true, err
}

// checkRing refuses a ring without a trusted signature, or one that does not know what
// was published or seen before. The handle trusts no other ring afterwards.
func (m *managed) checkRing(ctx context.Context, ring *rotation.Ring, seen []rotation.Seen, created bool) error {
	if m.Predecessor != nil {
		for _, kid := range m.Predecessor.keyIDs() {
			if !ring.Knows(kid) {
				return hint.Errorf("`oidc-provider keys import` adds the key; if this is meant, remove the issuer first "+
					"and add it with a second change",
					"store %s: the ring does not know key %s, which is published for this issuer now: its tokens would be rejected", m.handle, kid)
			}
		}
		if l := m.Predecessor.legacy(); l.ring != nil && l.store == m.cfg.Store {
			seen = append(seen, *l.ring)
		}
	}
	m.handle.Access.Seen, m.doubts = nil, nil
	var witnessed []rotation.Seen
	for _, s := range seen {
		if s.Generation == 0 {
			witnessed = append(witnessed, s)
			continue
		}
		m.handle.Access.Seen = append(m.handle.Access.Seen, s)
		if err := ring.CheckAgainst(s); err != nil {
			return fmt.Errorf("store %s: %w", m.handle, err)
		}
	}
	if !created && !m.cfg.PublishOnly {
		if err := m.handle.Access.Verify(ctx, ring); err != nil {
			return fmt.Errorf("store %s: %w", m.handle, err)
		}
	}
	proven := len(m.handle.Access.Seen) > 0
	for _, s := range witnessed {
		err := witness.Check(ring, []rotation.Seen{s}, time.Now(), func(w string) { m.Log.Warn(w) })
		switch {
		case err != nil && created:
			return fmt.Errorf("store %s: %w", m.handle, err)
		case err != nil && proven:
			m.Log.Warn("a witness shows a key that is not in the ring, which is the one that this server has seen before, "+
				"or came after it", "witness", s.By, "err", err)
		case err != nil:
			m.Log.Error("a witness shows a key that is not in the ring: nothing is written until the ring has it", "err", err)
			m.doubts = append(m.doubts, s)
		}
	}
	m.witnessed.Store(&witnessed)
	return nil
}

// checkOpens refuses to start where no token could be signed: a wrong identity
// should be noticed before anything changes. A plugin that is unavailable may come
// back.
func (m *managed) checkOpens(ctx context.Context, ring *rotation.Ring) error {
	open, err := ring.Unseal(ctx, m.handle.Sealer)
	if err == nil || errors.Is(err, rotation.ErrUnavailable) || open.Active(open.At(time.Now())).SigningKey() != nil {
		return nil
	}
	return fmt.Errorf("store %s: %w", m.handle, err)
}

// checkSecret refuses to sign for an API server that stores the keys: once both
// are down, neither can start without the other.
func (m *managed) checkSecret(ctx context.Context) error {
	s, ok := m.handle.Store.(*secret.Store)
	if !ok || m.cfg.SignerSocket == "" {
		return nil
	}
	cfg, err := kube.LimitedConfig(m.cfg.Kubeconfig, m.cfg.Context, m.cfg.KubeLimits)
	if err != nil {
		return err
	}
	theirs := secret.TokenIssuer(cfg)
	if theirs != m.issuer { // the credential may belong to a user
		switch theirs, err = s.Issuer(ctx); {
		case errors.Is(err, rotation.ErrUnavailable):
			return hint.Wrap(err, "if that API server waits for this server to sign, neither will ever start: keep the "+
				"ring in etcd or in files")
		case err != nil:
			m.Log.Warn("cannot tell whether this server signs for the API server that stores the ring: it must not", "err", err)
		}
	}
	if theirs == m.issuer {
		return hint.Errorf("keep the ring in etcd, in files or in another cluster; a server with {publishOnly} may read "+
			"it from here",
			"the API server that stores this Secret belongs to issuer %s, for which this server signs: "+
				"it could not start without its signer, nor the signer without it", theirs)
	}
	return nil
}
