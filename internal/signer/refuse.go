package signer

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oidc-provider/rotation"
)

// refusalInterval is the time between two log lines with the same reason.
const refusalInterval = 10 * time.Second

// refusals logs why tokens were not signed: for each reason at most one line per
// refusalInterval, since every request of a cluster can fail for the same reason.
// A line counts the lines that were suppressed before it.
type refusals struct {
	log *slog.Logger

	mu   sync.Mutex
	seen map[string]*refusal // by reason, of which there are a few
}

type refusal struct {
	logged     time.Time
	suppressed int // since then
}

// add logs err, and returns what the requester of the token gets.
func (r *refusals) add(err error) error {
	code, reason, message := answerTo(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.seen[reason]
	switch {
	case known == nil:
		known = new(refusal)
		r.seen[reason] = known
	case time.Since(known.logged) < refusalInterval:
		known.suppressed++
		return status.Error(code, message)
	}
	log := r.log
	if known.suppressed > 0 {
		log = log.With("suppressed", known.suppressed)
	}
	log.Warn("refused to sign a token", "err", err)
	known.logged, known.suppressed = time.Now(), 0
	return status.Error(code, message)
}

// answerTo maps errors to gRPC. reason is one of a few texts. message is what the
// requester gets: it contains nothing of the claims, the configuration, the keys
// or the store. Every error that is not the caller's fault is Unavailable, so that
// kube-apiserver tries again.
func answerTo(err error) (code codes.Code, reason, message string) {
	var claims *ClaimsError
	var stale *rotation.StaleError
	switch {
	case errors.As(err, &claims):
		return codes.InvalidArgument, claims.Reason, claims.Reason
	case errors.As(err, &stale):
		return codes.Unavailable, "stale", stale.Error() // two durations
	}
	const other = "no key can sign now; the log of oidc-provider says why"
	return codes.Unavailable, other, other
}
