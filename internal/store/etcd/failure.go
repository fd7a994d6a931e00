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

	"oidc-provider/rotation"
)

// failures are answers of members that failed.
type failures []*answer

func (f failures) Error() string {
	var all []string
	for _, a := range f {
		all = append(all, a.member.endpoint+": "+reason(a.err))
	}
	return strings.Join(all, "; ")
}

// passes tells whether all may work again by themselves.
func (f failures) passes() bool {
	for _, a := range f {
		if !passes(a.err) {
			return false
		}
	}
	return true
}

// failure says what went wrong while doing something. It is the one place that
// decides what [rotation.ErrUnavailable] is, and what is not: a failure that
// stays until somebody changes something.
func (s *Store) failure(ctx context.Context, doing string, err error) error {
	doing = fmt.Sprintf("%s %s in etcd", doing, s.key)
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	}
	text := err.Error()
	if !strings.Contains(text, "(hint: ") {
		text += " (hint: " + strings.ReplaceAll(hint(text), "KEY", s.key) + ")"
	}
	if f := (failures{}); errors.As(err, &f) && f.passes() {
		return fmt.Errorf("%s: %w: %s", doing, rotation.ErrUnavailable, text)
	}
	return fmt.Errorf("%s: %s", doing, text)
}

// reason is what err says, without the wrapping that gRPC puts around it.
func reason(err error) string {
	text := strings.TrimPrefix(rpctypes.ErrorDesc(err), "latest balancer error: ")
	if _, quoted, ok := strings.Cut(text, "connection error: desc = "); ok {
		if inner, err := strconv.Unquote(quoted); err == nil {
			return inner
		}
	}
	return text
}

// saysLittle tells of an end of time, or of another goroutine's.
func saysLittle(err error) bool {
	return status.Code(err) == codes.Canceled || strings.HasPrefix(reason(err), "context ")
}

// passes tells of what may work later, or on another member.
func passes(err error) bool {
	switch {
	case certificateRefused(reason(err)), strings.Contains(reason(err), "failed to verify certificate"):
		return false
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return true // no time for a connection, or another goroutine has dropped it
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

// errLearner is a member's that is not ready to serve.
var errLearner = rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)

// tooLarge tells that a request was refused for its size, by etcd or before.
func tooLarge(err error) bool {
	return errors.Is(err, rpctypes.ErrRequestTooLarge) ||
		status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max")
}

// certificateRefused tells that etcd did not like ours. TLS says so with an
// alert, of which gRPC leaves only the text.
func certificateRefused(text string) bool {
	_, alert, found := strings.Cut(text, "remote error: tls: ")
	return found && strings.Contains(alert, "certificate")
}

// hints are what to do about an error that has the text in it. The last is
// for all others.
var hints = []struct{ text, hint string }{
	{"etcdserver: authentication failed", "are --etcd-user and --etcd-password-file right?"},
	{"etcdserver: user name is empty", "this etcd wants to know its users: --etcd-user and --etcd-password-file, or a client certificate with a user's name as its CN"},
	{"etcdserver: permission denied", "`etcdctl role grant-permission ROLE readwrite KEY` allows it to those who have that role"},
	{"etcdserver: no leader", "`etcdctl endpoint status --cluster` tells which members are missing"},
	{"etcdserver: mvcc: database space exceeded", "nothing was written: compact and defragment etcd, then `etcdctl alarm disarm`"},
	{"failed to verify certificate", "--etcd-ca-file must hold the CA of etcd's server certificates, and these the hosts of --store"},
	{"does not look like a TLS handshake", "does this etcd go without TLS? Then write etcd:// for etcds://"},
	{"error reading server preface", "is this the port for clients, and does it want TLS? Then write etcds:// for etcd://"},
	{"connection refused", "is etcd running there? --store wants its port for clients, usually 2379"},
	{"no such host", "are the hosts of --store right?"},
	{"", "can it be reached from here, and has it a quorum? `etcdctl endpoint health --cluster` tells"},
}

func hint(text string) string {
	if certificateRefused(text) {
		return "--etcd-cert-file and --etcd-key-file must be of a client certificate that etcd's --trusted-ca-file has signed, like kubeadm's healthcheck-client.crt"
	}
	i := slices.IndexFunc(hints, func(h struct{ text, hint string }) bool { return strings.Contains(text, h.text) })
	return hints[i].hint
}
