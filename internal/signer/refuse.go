package signer

import (
	"errors"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oidc-provider/rotation"
)

// refusals logs why tokens were not signed.
type refusals struct {
	log  *slog.Logger
	seen *repeats
}

// add logs err, and returns what the requester of the token gets.
func (r *refusals) add(err error) error {
	code, reason, message := answerTo(err)
	if suppressed, due := r.seen.due(reason); due {
		log := r.log
		if suppressed > 0 {
			log = log.With("suppressed", suppressed)
		}
		log.Warn("refused to sign a token", "err", err)
	}
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
