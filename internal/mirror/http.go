package mirror

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// maxDocument bounds what is read of an answer or a file: far above what any
// relying party reads.
const maxDocument = 1 << 20

const userAgent = "oidc-provider"

// A statusError is an answer that is not 200 OK.
type statusError struct {
	code int
	to   string // the host that a redirect leads to
}

func (e *statusError) Error() string {
	if e.code >= 300 && e.code < 400 {
		return fmt.Sprintf("it redirects to %q (HTTP status %d), which is not followed", e.to, e.code)
	}
	return fmt.Sprintf("it answers with HTTP status %d (%s)", e.code, http.StatusText(e.code))
}

// newClient follows no redirects: whoever can redirect could put keys of his
// own in the place of those that are asked for.
func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get reads a document. Its errors name neither the URL, whose query may be
// secret, nor anything that was read.
func get(ctx context.Context, client *http.Client, u *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("that is no URL to ask for")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", userAgent)
	resp, err := client.Do(req)
	if err != nil {
		return nil, networkFailure(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		failure := &statusError{code: resp.StatusCode}
		if to, err := resp.Location(); err == nil {
			failure.to = to.Host
		}
		return nil, failure
	}
	data, err := readAtMost(resp.Body, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", networkFailure(err))
	}
	return data, nil
}

// networkFailure says the same each time that the same thing fails: without the
// URL, and without the port at this end.
func networkFailure(err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		return fmt.Errorf("%w (hint: the CA must be the one of that server, which must be asked for under the name or address that its certificate has)", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer in time: %w (hint: can it be reached from here?)", context.DeadlineExceeded)
	case errors.As(err, &op):
		anywhere := *op
		anywhere.Source = nil
		return fmt.Errorf("%w (hint: does it run, and can it be reached from here?)", &anywhere)
	}
	return err
}
