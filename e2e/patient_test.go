package e2e

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A patientReviewer is the API server as a relying party of a provider that is
// killed again and again. One "no" is forgiven, and counted: that to the first
// token of a key, for as long as an outage may last. If a kill kept the API
// server from fetching the keys, its next try is ten seconds away. It does fetch
// at once for a kid that it does not know, but says no while its connection to
// the provider is down.
//
// Any later "no" to the same key is a failure, outage or not: the API server
// keeps what it has until it fetches something else, and the provider must not
// leave a key out. Other errors are failures too, since nobody kills the API
// server.
type patientReviewer struct {
	cluster  *cluster
	accepted map[string]bool // kids
	forgiven int             // tokens that were refused at first
	longest  time.Duration   // from a forgiven "no" to "yes"
}

// party is for one goroutine at a time, as every party of a traffic is.
func (r *patientReviewer) party() relyingParty {
	return relyingParty{name: "TokenReview", once: true, verify: r.verify}
}

func (r *patientReviewer) verify(ctx context.Context, token string) error {
	h, err := header(token)
	if err != nil {
		return err
	}
	began, refused := time.Now(), false
	for {
		err := r.cluster.review(ctx, token, audience)
		waited := time.Since(began)
		switch {
		case err == nil:
			r.accepted[h.KeyID] = true
			if refused {
				r.forgiven++
				r.longest = max(r.longest, waited)
			}
			return nil
		case !errors.Is(err, errNotAuthenticated) || r.accepted[h.KeyID] || waited > recovery:
			return err
		}
		refused = true
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *patientReviewer) report(t *testing.T) {
	t.Logf("TokenReview refused the first token of %d of %d keys, for %s at most",
		r.forgiven, len(r.accepted), r.longest.Round(time.Millisecond))
}
