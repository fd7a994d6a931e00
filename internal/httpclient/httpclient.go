// Package httpclient has what every HTTP client of this program shares: trust in
// a CA from a file, no redirects, a bound for what is read, and errors that are
// safe to show and the same every time.
//
//	roots, err := httpclient.CAPool(cfg.CAFile)
//	…
//	client := httpclient.New(httpclient.Transport(roots))
//	data, err := httpclient.Get(ctx, client, url, 1<<20)
package httpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
)

// UserAgent is how this program introduces itself to servers.
const UserAgent = "oidc-provider"

// maxCAFile is room for all CAs that a system trusts, five times over.
const maxCAFile = 1 << 20

// CAPool reads the CA certificates in a PEM file. It returns nil, which means
// those that the system trusts, if file is empty. The error names the file; the
// caller adds which setting that is.
func CAPool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	opened, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates: %w", err)
	}
	defer opened.Close()
	data, err := input.ReadAtMost(opened, maxCAFile)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates from %s: %w", file, err)
	}
	return pool(file, data)
}

// RegularCAPool is CAPool for a process that reads the file again and again: it
// refuses everything that is not a regular file, such as a pipe, which could block.
func RegularCAPool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, _, err := input.ReadFile(file, maxCAFile)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates: %w", err)
	}
	return pool(file, data)
}

func pool(file string, data []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("reading CA certificates from %s: no certificate in PEM form", file)
	}
	return pool, nil
}

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 64 << 10

// Transport returns a transport like [http.DefaultTransport] that accepts only
// TLS 1.2 or later and the certificates of roots, nil for those of the system, and
// that buffers little.
func Transport(roots *x509.CertPool) *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	// A server could make a client buffer 10 MiB of header and 4 MiB of answer.
	transport.MaxResponseHeaderBytes = maxHeader
	transport.HTTP2 = &http.HTTP2Config{
		MaxReadFrameSize: 16 << 10, MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10,
	}
	return transport
}

// New returns a client that follows no redirects, and returns them as answers
// instead. Anyone who can redirect a client could give it third-party keys, and a
// redirected PUT becomes a GET, whose success means nothing. The client has no
// timeout: the context of a request has.
func New(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A StatusError is an answer other than 200 OK.
type StatusError struct {
	Code int
	Host string // where a redirect leads to
}

func (e *StatusError) Error() string {
	if e.Code >= 300 && e.Code < 400 {
		return fmt.Sprintf("it redirects to %q (HTTP status %d), which is not followed", e.Host, e.Code)
	}
	return fmt.Sprintf("it answers with HTTP status %d (%s)", e.Code, http.StatusText(e.Code))
}

// Get reads a JSON document of at most limit bytes. An answer other than 200 OK
// is a [*StatusError], a longer one wraps [input.ErrTooLarge], and no answer is a
// [Failure]. Errors contain neither the URL, whose query may be secret, nor
// anything that was read.
func Get(ctx context.Context, client *http.Client, u *url.URL, limit int64) ([]byte, error) {
	data, _, err := GetDated(ctx, client, u, limit)
	return data, err
}

// GetDated is Get that also returns the Date of the answer.
func GetDated(ctx context.Context, client *http.Client, u *url.URL, limit int64) ([]byte, Date, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, Date{}, errors.New("not a valid URL")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", UserAgent)
	sent := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return nil, Date{}, Failure(err)
	}
	defer resp.Body.Close()
	date := DateOf(resp.Header, sent, time.Now())
	if resp.StatusCode != http.StatusOK {
		failure := &StatusError{Code: resp.StatusCode}
		if to, err := resp.Location(); err == nil {
			failure.Host = to.Host
		}
		return nil, date, failure
	}
	data, err := input.ReadAtMost(resp.Body, limit)
	if err != nil {
		return nil, date, fmt.Errorf("reading the answer: %w", Failure(err))
	}
	return data, date, nil
}

// Failure returns the failure of a request without a complete answer as
// [Reason] does, with a hint.
func Failure(err error) error {
	err = Reason(err)
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		return hint.Wrap(err, "trust the CA that signed the certificate of that server, "+
			"and connect under a name or address that the certificate contains")
	case errors.Is(err, context.DeadlineExceeded):
		return hint.Wrap(err, "is it reachable from here?")
	case errors.As(err, &op):
		return hint.Wrap(err, "is it running and reachable from here?")
	}
	return err
}

// Reason returns why a request got no complete answer, with the same text every
// time that the same thing fails: without the URL, and without the local port.
func Reason(err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	case errors.As(err, &op):
		anywhere := *op
		anywhere.Source = nil
		return &anywhere
	}
	return err
}
