package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"oidc-provider/internal/input"
)

const (
	// maxDocument is far above what any relying party reads, and maxHeader
	// above what any proxy sends.
	maxDocument = 1 << 20
	maxHeader   = 64 << 10
	// maxAddresses and maxTries bound how often one document is asked for.
	maxAddresses = 16
	maxTries     = 100
)

const userAgent = "oidc-provider"

// viaProxy takes the place of the address of a host that only a proxy can resolve.
const viaProxy = "through the proxy"

// A client asks for documents. Each request has its own connection, like the
// requests of different relying parties.
type client struct {
	Options
	host string // of the issuer
}

func (c *client) proxied(u *url.URL) bool {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	return err == nil && proxy != nil
}

// tlsConfig accepts every certificate: it is judged later, and the connection
// carries no secrets.
func tlsConfig(u *url.URL) *tls.Config {
	return &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}
}

// get asks for u at address. Relying parties differ, so n alternates between
// HTTP/2 and HTTP/1.1, and between asking for compression and not.
func (c *client) get(ctx context.Context, u *url.URL, address string, n int) (answer Answer) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	config := tlsConfig(u)
	transport := transportTo(ctx, address, n)
	transport.TLSClientConfig = config
	defer transport.CloseIdleConnections()
	// The chain is of interest even if no answer follows, or if the request
	// ends before the handshake.
	var handshake atomic.Pointer[tls.ConnectionState]
	config.VerifyConnection = func(s tls.ConnectionState) error {
		handshake.Store(&s)
		return nil
	}
	answer.Address = address
	defer func() {
		if s := handshake.Load(); s != nil {
			answer.Chain, answer.TLS = s.PeerCertificates, s.Version
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		answer.Err = err
		return answer
	}
	// No Accept header, like most relying parties: kube-apiserver has no key set
	// for a client that accepts only application/json.
	req.Header.Set("User-Agent", userAgent)
	start := time.Now()
	resp, err := transport.RoundTrip(req) // follows no redirects
	if err == nil {
		answer.read(resp)
		answer.Latency, err = time.Since(start), answer.Err
	}
	if err != nil {
		answer.fail(ctx, err)
	}
	return answer
}

// transportTo returns a transport that connects to address, see [client.get].
func transportTo(ctx context.Context, address string, n int) *http.Transport {
	h2, compressed := n%2 == 0, n%4 >= 2
	transport := &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     !compressed,
		ForceAttemptHTTP2:      h2,
		MaxResponseHeaderBytes: maxHeader,
	}
	if address == viaProxy {
		transport.Proxy = http.ProxyFromEnvironment
	}
	transport.DialContext = func(_ context.Context, _, to string) (net.Conn, error) {
		if address != viaProxy {
			to = address
		}
		return dial(ctx, to)
	}
	return transport
}

// dial opens a connection that ends with ctx. The transport alone does not
// ensure that while it dials, nor after 101 Switching Protocols.
func dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		context.AfterFunc(ctx, func() { conn.Close() })
	}
	return conn, err
}

// http10 asks for u with HTTP/1.0, like the oldest clients.
func (c *client) http10(ctx context.Context, u *url.URL, address string) (answer Answer) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	answer.Address = address
	if err := answer.http10(ctx, u); err != nil {
		answer.fail(ctx, err)
	}
	return answer
}

func (a *Answer) http10(ctx context.Context, u *url.URL) error {
	stream, err := dial(ctx, a.Address)
	if err != nil {
		return err
	}
	if u.Scheme == "https" {
		stream = tls.Client(stream, tlsConfig(u))
	}
	const request = "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: %s\r\n\r\n"
	if _, err := fmt.Fprintf(stream, request, u.RequestURI(), u.Host, userAgent); err != nil {
		return err
	}
	limited := &io.LimitedReader{R: stream, N: maxHeader}
	resp, err := http.ReadResponse(bufio.NewReader(limited), nil)
	if err != nil {
		return err
	}
	limited.N += 2 * maxDocument // a.read reads less, chunked or not
	a.read(resp)
	return a.Err
}

func (a *Answer) read(resp *http.Response) {
	defer resp.Body.Close()
	a.Proto, a.Status, a.Header, a.Transfer = resp.Proto, resp.StatusCode, resp.Header, resp.TransferEncoding
	a.Body, a.Err = input.ReadAtMost(resp.Body, maxDocument)
	if errors.Is(a.Err, input.ErrTooLarge) {
		a.TooLong, a.Err = true, nil
	}
}

// fail records why no answer came.
func (a *Answer) fail(ctx context.Context, err error) {
	// A single IPv4 host without a route is down or blocked.
	a.NoRoute = errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) ||
		errors.Is(err, syscall.EHOSTUNREACH) && strings.HasPrefix(a.Address, "[")
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = errTimeout
	}
	a.Err = err
}

var errTimeout = errors.New("no complete answer in time")

// answered reports whether a server accepted the connection. An error from a
// proxy does not count.
func (a *Answer) answered() bool {
	var op *net.OpError
	return a.Err == nil || a.Chain != nil ||
		a.Address != viaProxy && !(errors.As(a.Err, &op) && op.Op == "dial") && !errors.Is(a.Err, errTimeout)
}
