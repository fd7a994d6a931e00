package secret

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/kube"
	"oidc-provider/rotation"
)

var errTooLarge = hint.Errorf("retired keys make the ring grow: rotate less often, or use another kind of store",
	"a Secret holds at most %d KiB", corev1.MaxSecretSize>>10)

// A malformedError describes an answer that reports success and is unusable.
type malformedError struct{ what, hint string }

func (e *malformedError) Error() string { return e.what }
func (e *malformedError) Hint() string  { return e.hint }

// foreign returns the error of an answer that no API server gives.
func foreign(what string) error { return &malformedError{what, kube.HintForeign} }

// failure returns the error of a request that failed. It is the only place that
// decides whether a failure is [rotation.ErrUnavailable] or stays until an operator
// changes something.
func (s *Store) failure(ctx context.Context, doing string, err error) error {
	var malformed *malformedError
	var status apierrors.APIStatus
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case errors.Is(err, errTooLarge), errors.As(err, &malformed):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.As(err, &status):
		return s.refusal(doing, status.Status(), err)
	}
	return networkFailure(doing, err)
}

// refusal returns the error of a request that was answered.
func (s *Store) refusal(doing string, status metav1.Status, err error) error {
	if apierrors.IsUnexpectedServerError(err) {
		// The text is not the API's but that of a proxy's error page.
		err = fmt.Errorf("it answered with HTTP status %d", status.Code)
	}
	switch code := status.Code; {
	case kube.Busy(int(code)):
		err = fmt.Errorf("%w: %w", rotation.ErrUnavailable, err)
	case code == http.StatusUnauthorized:
	case hasCause(status, corev1.NamespaceTerminatingCause, ""):
		err = hint.Wrap(err, "the namespace is being deleted: use another, or wait and create it again")
	case code == http.StatusForbidden:
		err = hint.Wrap(err, fmt.Sprintf("`oidc-provider keys rbac --store secret:%s/%s "+
			"--service-account NAMESPACE:NAME` prints the Role that is needed", s.namespace, s.name))
	case code == http.StatusRequestEntityTooLarge, hasCause(status, metav1.CauseType(field.ErrorTypeTooLong), "data"):
		err = fmt.Errorf("%w: %w", err, errTooLarge)
	}
	return hint.Wrap(fmt.Errorf("%s: %w", doing, err), kube.StatusHint(int(status.Code)))
}

// networkFailure returns the error of a request without a complete answer.
func networkFailure(doing string, err error) error {
	err = kube.Failure(err)
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, rotation.ErrUnavailable, err)
}

// isMissing reports whether the API server answered that an object of that resource
// does not exist. The 404 of something else, such as a proxy, does not mean that.
func isMissing(err error, resource string) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsNotFound(err) || apierrors.IsUnexpectedServerError(err) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Kind == resource
}

func hasCause(status metav1.Status, cause metav1.CauseType, field string) bool {
	if status.Details == nil {
		return false
	}
	for _, c := range status.Details.Causes {
		if c.Type == cause && strings.HasPrefix(c.Field, field) {
			return true
		}
	}
	return false
}
