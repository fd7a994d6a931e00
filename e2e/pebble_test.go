package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// refusedHost is a name that no pebble gives a certificate to.
const refusedHost = "refused.example.test"

// A pebble is a real ACME authority, and a DNS server that knows every name to
// be at 127.0.0.1 until it is told otherwise. It validates each challenge anew,
// on ports of the test's choice, and now and then refuses a nonce, as by
// default.
type pebble struct {
	lab        *lab
	directory  string // URL, under a certificate of the lab's authority
	management string // address
	dns        string // address where the DNS server is told

	// Where the answers to tls-alpn-01 and http-01 are looked for.
	tlsPort, httpPort int

	process *child
}

// newPebble starts an authority whose certificates live for life, in whole
// seconds.
func (l *lab) newPebble(life time.Duration) *pebble {
	l.t.Helper()
	listen, dns := address(l.freePort()), address(l.freePort())
	p := &pebble{
		lab: l, management: address(l.freePort()), dns: address(l.freePort()),
		directory: "https://" + listen + "/dir",
		tlsPort:   l.freePort(), httpPort: l.freePort(),
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress":           listen,
		"managementListenAddress": p.management,
		"certificate":             l.ca.certFile,
		"privateKey":              l.ca.keyFile,
		"httpPort":                p.httpPort,
		"tlsPort":                 p.tlsPort,
		"keyAlgorithm":            "ecdsa",
		"domainBlocklist":         []string{refusedHost},
		"retryAfter":              map[string]int{"authz": 1, "order": 1},
		"profiles":                map[string]any{"default": map[string]any{"description": "of the test", "validityPeriod": int(life.Seconds())}},
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.startChild("dns", dnsBinary, "-dnsserver", dns, "-management", p.dns,
		"-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "")
	env := []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0"} // a name validated before is validated again
	p.process = l.startChildEnv(env, "pebble", pebbleBinary, "-config", l.write("pebble.json", string(config)), "-dnsserver", dns)
	p.process.awaitReady(30*time.Second, func() error { return expectOK(l.ca.client(), p.directory) })
	return p
}

// resolve has the authority look for host at another address from now on.
func (p *pebble) resolve(host, ip string) {
	p.lab.t.Helper()
	body, err := json.Marshal(map[string]any{"host": host, "addresses": []string{ip}})
	if err != nil {
		p.lab.t.Fatal(err)
	}
	eventually(p.lab.t, "the DNS server is told", 10*time.Second, func() error {
		resp, err := http.Post("http://"+p.dns+"/add-a", "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// roots are what the relying parties of this authority trust. It has new ones at
// each start.
func (p *pebble) roots() *x509.CertPool {
	p.lab.t.Helper()
	status, body, err := get(p.lab.t.Context(), p.lab.ca.client(), "https://"+p.management+"/roots/0")
	if err != nil || status != http.StatusOK {
		p.lab.t.Fatalf("the root of the authority: status %d, %v", status, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(body)) {
		p.lab.t.Fatalf("no root of the authority in %q", body)
	}
	return pool
}

// issued and validated count what the authority has done since it started.
func (p *pebble) issued() int {
	return bytes.Count(p.process.output(), []byte("Issued certificate serial"))
}
func (p *pebble) validated() int {
	return bytes.Count(p.process.output(), []byte("set VALID by completed challenge"))
}

// A caller is a relying party that fetches a key set of one key, with a new
// connection for each request.
type caller struct {
	url    string
	client *http.Client
}

// newCaller asks for the path at the address, under the name of host, whose
// certificate it verifies.
func newCaller(addr, host, path string, roots *x509.CertPool) *caller {
	return &caller{url: "https://" + host + path, client: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			},
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DisableKeepAlives: true,
		},
		Timeout: 10 * time.Second,
	}}
}

// call returns the certificate that came with the key set.
func (c *caller) call(ctx context.Context) (*x509.Certificate, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", c.url, response.Status)
	}
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil || len(set.Keys) != 1 {
		return nil, fmt.Errorf("GET %s: %d keys, %v", c.url, len(set.Keys), err)
	}
	return response.TLS.PeerCertificates[0], nil
}

// serial waits until the certificate can be verified and has another serial
// number than all those given.
func (c *caller) serial(t testing.TB, within time.Duration, not ...string) string {
	t.Helper()
	var serial string
	eventually(t, "a new certificate for "+c.url, within, func() error {
		cert, err := c.call(t.Context())
		if err != nil {
			return err
		}
		if serial = cert.SerialNumber.String(); slices.Contains(not, serial) {
			return fmt.Errorf("still serial %s, valid until %s", serial, cert.NotAfter)
		}
		return nil
	})
	return serial
}

// A rush makes new connections all the time, from several callers at once, and
// fails the test with each that fails.
type rush struct {
	t    *testing.T
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	calls    int
	failures int
	serials  []string // of the certificates, in the order in which they came
	slowest  time.Duration
}

func (c *caller) rush(t *testing.T, callers int) *rush {
	ctx, stop := context.WithCancel(t.Context())
	r := &rush{t: t, stop: stop}
	for range callers {
		r.done.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				cert, err := c.call(ctx)
				if ctx.Err() == nil {
					r.record(cert, err, time.Since(began))
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	t.Cleanup(r.end)
	return r
}

func (r *rush) end() {
	r.stop()
	r.done.Wait()
}

func (r *rush) record(cert *x509.Certificate, err error, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	r.slowest = max(r.slowest, took)
	if err != nil {
		if r.failures++; r.failures <= 5 {
			r.t.Errorf("a new connection failed: %v", err)
		}
		return
	}
	if serial := cert.SerialNumber.String(); !slices.Contains(r.serials, serial) {
		r.serials = append(r.serials, serial)
	}
}

// await waits until there have been so many certificates.
func (r *rush) await(certificates int, within time.Duration) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d certificates", certificates), within, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.serials) < certificates {
			return fmt.Errorf("%d seen", len(r.serials))
		}
		return nil
	})
}

// last is the serial number of the newest certificate.
func (r *rush) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.serials[len(r.serials)-1]
}

// report ends the rush and says what it came to.
func (r *rush) report() {
	r.t.Helper()
	r.end()
	r.t.Logf("%d new connections, %d failed, %d certificates, slowest %s", r.calls, r.failures, len(r.serials), r.slowest.Round(time.Millisecond))
	if r.calls == 0 || r.failures > 0 {
		r.t.Errorf("%d of %d new connections failed, want none", r.failures, r.calls)
	}
}
