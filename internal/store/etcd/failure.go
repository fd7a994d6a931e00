package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

// failures holds the answers of members that failed. It does not wrap their
// errors: a gRPC status of etcd must not pass for one of ours.
type failures []*answer

func (f failures) Error() string {
	var all []string
	for _, a := range f {
		all = append(all, a.member.endpoint+": "+reason(a.err))
	}
	return strings.Join(all, "; ")
}

// transient reports whether all failures may end without a change by an operator.
func (f failures) transient() bool {
	for _, a := range f {
		if !transient(a.err) {
			return false
		}
	}
	return true
}

// failure returns the error of an operation on the store. It is the only place
// that decides whether a failure is [rotation.ErrUnavailable] or stays until an
// operator changes something.
func (s *Store) failure(ctx context.Context, doing string, failed failures) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s %v: %w", doing, s, ctx.Err())
	}
	// failed names the endpoints.
	err := fmt.Errorf("%s etcd key %s: %w", doing, s.key, failed)
	if failed.transient() {
		err = fmt.Errorf("%s etcd key %s: %w: %w", doing, s.key, rotation.ErrUnavailable, failed)
	}
	return hint.Wrap(err, strings.ReplaceAll(hintFor(failed.Error()), "KEY", s.key))
}

// reason returns the text of err without the wrapping that gRPC adds.
func reason(err error) string {
	text := strings.TrimPrefix(rpctypes.ErrorDesc(err), "latest balancer error: ")
	if _, quoted, ok := strings.Cut(text, "connection error: desc = "); ok {
		if inner, err := strconv.Unquote(quoted); err == nil {
			return inner
		}
	}
	return text
}

// saysLittle reports whether err only says that time ran out, or that another
// goroutine closed the connection.
func saysLittle(err error) bool {
	return status.Code(err) == codes.Canceled || strings.HasPrefix(reason(err), "context ")
}

// transient reports whether the request may succeed later, or on another member.
func transient(err error) bool {
	switch {
	case certificateRefused(reason(err)), strings.Contains(reason(err), "failed to verify certificate"):
		return false
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return true // too little time to connect, or another goroutine dropped the connection
	case errors.Is(err, rpctypes.ErrInvalidAuthToken), errors.Is(err, rpctypes.ErrAuthOldRevision):
		return true // the client has a new token now
	case errors.Is(err, rpctypes.ErrTooManyRequests), errors.Is(rpctypes.Error(err), errLearner):
		return true
	}
	code := status.Code(err)
	if known := (rpctypes.EtcdError{}); errors.As(err, &known) {
		code = known.Code()
	}
	return code == codes.Unavailable || code == codes.Canceled || code == codes.Internal
}

// errLearner is the error of a member that is not ready to serve.
var errLearner = rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)

// tooLarge reports whether a request was refused for its size, by etcd or by gRPC.
func tooLarge(err error) bool {
	return errors.Is(err, rpctypes.ErrRequestTooLarge) ||
		status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max")
}

// certificateRefused reports whether etcd refused our client certificate. TLS
// sends an alert, and gRPC keeps only its text.
func certificateRefused(text string) bool {
	_, alert, found := strings.Cut(text, "remote error: tls: ")
	return found && strings.Contains(alert, "certificate")
}

// hints lists what to do about an error that contains the text. The last entry is
// for all others.
var hints = []struct{ text, hint string }{
	{errClosed.Error(), "this is a bug in oidc-provider: please report it"},
	{clientCertificate, "{etcd.certFile} and {etcd.keyFile} must be PEM files that this user can read"},
	{"etcdserver: authentication failed", "check {etcd.user} and the password in {etcd.passwordFile}"},
	{"etcdserver: user name is empty", "set {etcd.user} and {etcd.passwordFile}, or {etcd.certFile} and {etcd.keyFile} " +
		"to a client certificate with the user's name as its CN"},
	{"etcdserver: permission denied", "run `etcdctl role grant-permission ROLE readwrite KEY` with a role of the user"},
	{"etcdserver: no leader", "`etcdctl endpoint status --cluster` shows which members are down"},
	{"etcdserver: mvcc: database space exceeded",
		"nothing was written: compact and defragment etcd, then run `etcdctl alarm disarm`"},
	{"failed to verify certificate",
		"set {etcd.caFile} to the CA of etcd's server certificates, and name the hosts in {store} as the certificates do"},
	{"does not look like a TLS handshake", "if this etcd does not use TLS, write etcd:// instead of etcds:// in {store}"},
	{"error reading server preface",
		"if this etcd uses TLS, write etcds:// instead of etcd:// in {store}; check that this is the port for clients"},
	{"connection refused", "check that etcd runs there, and that {store} has its port for clients, usually 2379"},
	{"no such host", "correct the hosts in {store}"},
	{"", "check the network, and the quorum with `etcdctl endpoint health --cluster`"},
}

func hintFor(text string) string {
	if certificateRefused(text) {
		return "set {etcd.certFile} and {etcd.keyFile} to a client certificate signed by etcd's --trusted-ca-file, " +
			"like kubeadm's healthcheck-client.crt"
	}
	i := slices.IndexFunc(hints, func(h struct{ text, hint string }) bool { return strings.Contains(text, h.text) })
	return hints[i].hint
}
