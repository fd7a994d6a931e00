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

// viaProxy stands for the address of a host that only a proxy can resolve.
const viaProxy = "through the proxy"

// A client asks for documents. Each request has a connection of its own, as
// those of different relying parties have.
type client struct {
	Options
	host string // of the issuer
}

func (c *client) proxied(u *url.URL) bool {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	return err == nil && proxy != nil
}

// tlsConfig lets every certificate pass: what it is worth is judged later, and
// nothing that is secret goes over the connection.
func tlsConfig(u *url.URL, protocols ...string) *tls.Config {
	return &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, NextProtos: protocols}
}

// get asks for u at address. Relying parties differ: with n they take turns in
// HTTP/2 and HTTP/1.1, and in asking for compression.
func (c *client) get(ctx context.Context, u *url.URL, address string, n int) (answer Answer) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	h2, compressed := n%2 == 0, n%4 >= 2
	config := tlsConfig(u)
	transport := &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     !compressed,
		ForceAttemptHTTP2:      h2,
		TLSClientConfig:        config,
		MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	if address == viaProxy {
		transport.Proxy = http.ProxyFromEnvironment
	}
	transport.DialContext = func(_ context.Context, _, to string) (net.Conn, error) {
		if address != viaProxy {
			to = address
		}
		return dial(ctx, to)
	}
	// The chain is of interest also if nothing comes after it, and if the
	// request has ended before the handshake.
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
	// No Accept, as most relying parties: kube-apiserver has no key set for who
	// takes application/json alone.
	req.Header.Set("User-Agent", userAgent)
	start := time.Now()
	resp, err := transport.RoundTrip(req) // and so follows nothing
	if err == nil {
		answer.read(resp)
		answer.Latency, err = time.Since(start), answer.Err
	}
	if err != nil {
		answer.fail(ctx, err)
	}
	return answer
}

// dial has a connection that ends when ctx does. The transport alone would not
// see to that: not while it dials, and not after 101 Switching Protocols.
func dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		context.AfterFunc(ctx, func() { conn.Close() })
	}
	return conn, err
}

// http10 asks for u as the oldest of clients do.
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
	if _, err := fmt.Fprintf(stream, "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: %s\r\n\r\n", u.RequestURI(), u.Host, userAgent); err != nil {
		return err
	}
	limited := &io.LimitedReader{R: stream, N: maxHeader}
	resp, err := http.ReadResponse(bufio.NewReader(limited), nil)
	if err != nil {
		return err
	}
	limited.N += 2 * maxDocument // a.read takes less, chunked or not
	a.read(resp)
	return a.Err
}

func (a *Answer) read(resp *http.Response) {
	defer resp.Body.Close()
	a.Proto, a.Status, a.Header, a.Transfer = resp.Proto, resp.StatusCode, resp.Header, resp.TransferEncoding
	a.Body, a.Err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if len(a.Body) > maxDocument {
		a.Body, a.TooLong, a.Err = a.Body[:maxDocument], true, nil
	}
}

// fail notes why no answer came.
func (a *Answer) fail(ctx context.Context, err error) {
	// A single host of IPv4 that there is no way to is down, or shut off.
	a.NoRoute = errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) ||
		errors.Is(err, syscall.EHOSTUNREACH) && strings.HasPrefix(a.Address, "[")
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = errTimeout
	}
	a.Err = err
}

var errTimeout = errors.New("no whole answer in time")

// answered reports whether somebody was there. What comes from a proxy alone
// does not count.
func (a *Answer) answered() bool {
	var op *net.OpError
	return a.Err == nil || a.Chain != nil ||
		a.Address != viaProxy && !(errors.As(a.Err, &op) && op.Op == "dial") && !errors.Is(a.Err, errTimeout)
}
