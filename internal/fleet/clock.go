package fleet

import (
	"context"
	"errors"
	"time"

	"oidc-provider/internal/clock"
	"oidc-provider/internal/store/secret"
	"oidc-provider/internal/witness"
	"oidc-provider/rotation"
)

// compareEvery is the time between two comparisons of the clock with those of the
// witnesses.
const compareEvery = 5 * time.Minute

// trustsClock reports whether an operator vouches for the clock.
func (m *managed) trustsClock() bool { return m.TrustClock || m.cfg.TrustClock }

// evidence returns what a rotator goes by, nil if the clock is trusted.
func (m *managed) evidence() rotation.Clock {
	if m.trustsClock() {
		return nil
	}
	s, _ := m.handle.Store.(*secret.Store)
	return func(now time.Time, skew time.Duration) (confirmed bool, wrong error) {
		if s != nil {
			m.clock.Add("the API server that stores the ring", s.Date(), true)
		}
		return m.clock.Check(now, skew)
	}
}

// mayWrite returns an error if the clock is not good enough for a change of ring,
// or for the first one.
func (m *managed) mayWrite(ring *rotation.Ring, first bool) error {
	evidence := m.evidence()
	if evidence == nil {
		return nil
	}
	confirmed, wrong := evidence(time.Now(), time.Duration(ring.Policy.ClockSkew))
	// A first ring harms no other, unless it is from the future.
	if wrong == nil && (confirmed || first) {
		return nil
	}
	return &rotation.ClockError{Wrong: wrong}
}

func (m *managed) witnesses() witness.Config {
	return witness.Config{URLs: m.cfg.Witnesses, CAFile: m.cfg.WitnessCAFile}
}

// compareClock compares the clock with those of the witnesses until ctx is done. By
// now the answer may come from this server, so it confirms nothing.
func (m *managed) compareClock(ctx context.Context) {
	if m.trustsClock() || m.cfg.PublishOnly || !m.witnesses().Asks(m.issuer) {
		return
	}
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !m.witnesses().Named() && clock.Synchronised() {
			continue // one answer cannot contradict the kernel
		}
		answers, err := m.witnesses().AskDated(ctx, m.issuer, func(string, error) {})
		if err != nil && !errors.Is(err, context.Canceled) {
			m.Log.Warn("the clock is not compared with those of the witnesses", "err", err)
		}
		m.noteDates(answers, false)
	}
}

func (m *managed) noteDates(answers []witness.Answer, corroborate bool) {
	for _, a := range answers {
		m.clock.Add(a.By, a.Date, corroborate)
	}
}
