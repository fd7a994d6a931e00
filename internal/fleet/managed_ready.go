package fleet

import (
	"errors"
	"fmt"
	"time"

	"oidc-provider/internal/describe"
	"oidc-provider/web"
)

var errNotRead = errors.New("the ring has not been read yet")

// checks implements [source].
func (m *managed) checks() []web.Check {
	return []web.Check{
		{Name: "keys", Run: m.checkKeys},
		{Name: "rotation", Advisory: true, Run: m.checkRotation},
	}
}

func (m *managed) checkKeys() (string, error) {
	rotator, reason := m.rotator.Load(), m.waiting.Load()
	if doing := m.doing(); rotator == nil && doing != "" {
		return "", fmt.Errorf("%w: %s", errNotRead, doing)
	}
	switch {
	case rotator == nil && reason != nil:
		return "", fmt.Errorf("%w: %w", errNotRead, *reason)
	case rotator == nil:
		return "", errNotRead
	case reason != nil:
		return "", *reason
	}
	now := time.Now()
	if err := rotator.Ready(now); err != nil {
		return "", err
	}
	ring := rotator.View().Ring()
	known := fmt.Sprintf("ring generation %d, read %v ago", ring.Generation, rotator.ReadAge(now).Round(time.Millisecond))
	if rotator.PublishOnly() {
		return fmt.Sprintf("%d keys published; %s", len(rotator.View().KeySet()), known), nil
	}
	active, err := rotator.Signer(now)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s signs; %s", active.Key.KeyID(), known), nil
}

func (m *managed) checkRotation() (string, error) {
	rotator := m.rotator.Load()
	if rotator == nil {
		return "", errNotRead
	}
	if failure := rotator.Failure(); failure != nil {
		return "", failure
	}
	ring := rotator.View().Ring()
	at := rotator.At(time.Now())
	next, err := describe.NextRotation(ring, at)
	if unusable := errors.Join(ring.Unusable(at)...); unusable != nil {
		return "", errors.Join(unusable, err)
	}
	return next, err
}
