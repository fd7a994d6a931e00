package secret_test

import (
	"testing"
	"time"

	"oidc-provider/internal/store/secret"
)

// Every answer of the API server, also that there is no Secret, shows its time.
func TestDate(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *apiServer, s *secret.Store) {
		if d := s.Date(); !d.Shown.IsZero() {
			t.Errorf("before any answer: %v", d)
		}
		for range 2 {
			time.Sleep(time.Hour)
			load(t, s)
			if low, high := s.Date().Offset(); s.Date().Shown.IsZero() || low > 0 || high < 0 || high-low > 2*time.Second {
				t.Errorf("the clock is ahead by %v to %v", low, high)
			}
		}
	})
}
