package kube

import (
	"crypto/tls"
	"errors"
	"net/http"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
	"oidc-provider/internal/input"
)

// HintForeign is the hint for an answer that does not come from an API server.
const HintForeign = "is the server in the kubeconfig an API server?"

// hintPublic names the role that gives access to both documents.
const hintPublic = "bind the ClusterRole system:service-account-issuer-discovery"

// StatusHint returns what to do about an answer of an API server with that HTTP
// status, "" if that depends on the request.
func StatusHint(code int) string {
	switch {
	case code == http.StatusUnauthorized:
		return "it does not accept the credentials of the kubeconfig or ServiceAccount: " +
			"are they from that cluster, and not expired?"
	case code == http.StatusNotFound, code >= 300 && code < 400:
		return HintForeign
	case Busy(code):
		return "this may pass; if not, read the log of the API server"
	}
	return ""
}

// Busy reports whether an answer with that HTTP status may be another one soon,
// without a change to the cluster or the kubeconfig.
func Busy(code int) bool {
	return code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500
}

// Failure returns err, of a request without a complete answer, with a hint, and
// without its URL.
func Failure(err error) error {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return hint.Wrap(cert, "the kubeconfig needs the CA of that API server, "+
			"and a name or address that its certificate contains")
	}
	if hint.Of(err) == "" {
		err = httpclient.Failure(err)
	}
	if hint.Of(err) == "" {
		err = hint.Wrap(err, "is the API server running and reachable from here?")
	}
	return err
}

// documentFailure adds a hint to an error of [httpclient.Get].
func documentFailure(err error) error {
	var status *httpclient.StatusError
	switch {
	case errors.As(err, &status):
		return hint.Wrap(err, documentHint(status.Code))
	case errors.Is(err, input.ErrTooLarge):
		return hint.Wrap(err, HintForeign)
	}
	return Failure(err)
}

func documentHint(code int) string {
	switch code {
	case http.StatusUnauthorized:
		return StatusHint(code) + " without credentials, " + hintPublic + " to the group system:unauthenticated"
	case http.StatusForbidden:
		return hintPublic
	case http.StatusNotFound:
		return "the API server publishes its keys only if its --service-account-issuer is an https URL"
	}
	return StatusHint(code)
}

// Unavailable reports whether err, of [Server.Issuer] or [Server.Document], may
// pass without a change to the cluster or the kubeconfig: there was no complete
// answer, or the server is busy.
func Unavailable(err error) bool {
	var status *httpclient.StatusError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &status):
		return Busy(status.Code)
	case errors.As(err, &cert), errors.Is(err, input.ErrTooLarge), errors.Is(err, errForeign):
		return false
	}
	return true
}
