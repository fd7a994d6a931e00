package secret

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"oidc-provider/rotation"
)

var errTooLarge = fmt.Errorf("a Secret holds at most %d KiB (hint: retired keys make the ring grow: rotate less often, or use another kind of store)", corev1.MaxSecretSize>>10)

const noAPIServer = "(hint: does the server in the kubeconfig lead to an API server?)"

// A malformedError is what is wrong with an answer that reports success.
type malformedError struct{ what string }

func (e *malformedError) Error() string { return e.what }

// failure says what went wrong while doing something. It is the one place that
// decides what [rotation.ErrUnavailable] is, and what is not: a failure that
// stays until somebody changes something.
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

// refusal is the failure of a request that was answered.
func (s *Store) refusal(doing string, status metav1.Status, err error) error {
	if apierrors.IsUnexpectedServerError(err) {
		// The words are not the API's but those of some proxy's error page.
		err = fmt.Errorf("it answered with HTTP status %d", status.Code)
	}
	switch code := status.Code; {
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		return fmt.Errorf("%s: %w: %w (hint: this may pass; if not, the log of the API server tells more)", doing, rotation.ErrUnavailable, err)
	case code == http.StatusUnauthorized:
		return fmt.Errorf("%s: %w (hint: it does not accept the credentials of the kubeconfig or service account: are they from that cluster, and not expired?)", doing, err)
	case hasCause(status, corev1.NamespaceTerminatingCause, ""):
		return fmt.Errorf("%s: %w (hint: the namespace is being deleted: choose another, or wait and create it again)", doing, err)
	case code == http.StatusForbidden:
		return fmt.Errorf("%s: %w (hint: `oidc-provider keys rbac --store secret:%s/%s --service-account NAMESPACE:NAME` prints the Role that is needed)", doing, err, s.namespace, s.name)
	case code == http.StatusRequestEntityTooLarge, hasCause(status, metav1.CauseType(field.ErrorTypeTooLong), "data"):
		return fmt.Errorf("%s: %w: %w", doing, err, errTooLarge)
	case code == http.StatusNotFound, code >= 300 && code < 400:
		return fmt.Errorf("%s: %w %s", doing, err, noAPIServer)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// networkFailure is the failure of a request without a complete answer.
func networkFailure(doing string, err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err // which says it without the URL
	}
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		return fmt.Errorf("%s: %w (hint: the kubeconfig needs the CA of that API server, and the name or address that its certificate has)", doing, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: no answer in time: %w (hint: can it be reached from here?)", doing, rotation.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w: %w (hint: does it run, and can it be reached from here?)", doing, rotation.ErrUnavailable, err)
}

// isMissing tells that the API server knows that an object of that resource
// does not exist. A 404 of anybody else, like a proxy's, says nothing about it.
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
