package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// The challenges by which an authority finds out who answers for a name
// (RFC 8555, section 8, and RFC 8737), and the ALPN protocol of the second.
const (
	challengeHTTP    = "http-01"
	challengeTLSALPN = "tls-alpn-01"
	protocolTLSALPN  = "acme-tls/1"
)

const (
	// retryInterval is how long what failed for reasons of this machine, like
	// a full disk, is left alone. What an authority refuses is asked for again
	// after one minute at first, and six hours at last.
	retryInterval = time.Minute

	// stopTimeout is how long Stop waits for an authority that does not answer.
	stopTimeout = 5 * time.Second
)

// ACMEConfig says which certificates an [ACME] has, and from whom.
type ACMEConfig struct {
	// Directory is the URL of the authority's ACME directory, and nobody else
	// is asked. Default: Let's Encrypt, whose terms of service the first
	// certificate agrees to, as with every authority.
	Directory string
	// Email is where the authority can reach somebody. Default: nowhere.
	Email string
	// Storage is the directory, of mode 0700, with the account, the keys and
	// the certificates; it is made if it is not there. Servers that share one
	// share certificates, take turns in renewing them, and answer each other's
	// challenges, as they must behind one load balancer. Required.
	Storage string
	// CAFile is a PEM file with what the TLS certificate of the directory
	// itself is verified with, for an authority of one's own. Default: what
	// the system trusts.
	CAFile string
	// Challenges are those that this process can answer, [ACME.TLSConfig] the
	// tls-alpn-01, which needs TLSPort, and [ACME.Challenges] the http-01,
	// which needs HTTPPort. An authority connects to the ports 443 and 80 of
	// the name. Default: tls-alpn-01.
	Challenges []string
	// TLSPort and HTTPPort are where this process listens. A challenge opens
	// one that nobody listens on, for as long as it lasts, on all addresses.
	TLSPort, HTTPPort int
	// CheckInterval is how often the certificates are looked at for renewal.
	// That is due in the last third of a certificate's life, or when its
	// authority says so (RFC 9773), and in any case when less than five
	// intervals are left: take at most a fifteenth of what certificates live
	// for. Default 10m, right for a life of a few hours and more.
	CheckInterval time.Duration
	// Log is told of every certificate that was obtained or could not be.
	// Default: nothing is.
	Log *slog.Logger
}

// An ACME obtains TLS certificates from an authority and keeps them renewed.
type ACME struct {
	config     *certmagic.Config
	handshakes *certmagic.Config // the same, for what strangers ask for: it logs at debug
	issuer     *certmagic.ACMEIssuer
	cache      *certmagic.Cache
	files      *files
	protocols  []string
	hint       string
	log        *slog.Logger

	names    atomic.Pointer[[]string] // the keys of hosts, in the order of Manage
	ctx      context.Context          // of what goes on until Stop
	cancel   context.CancelFunc
	keepers  sync.WaitGroup
	stopOnce sync.Once

	mu      sync.Mutex
	stopped bool
	hosts   map[string]*managedHost
}

type managedHost struct {
	ctx    context.Context
	cancel context.CancelFunc
	err    error // why the last attempt failed
}

// NewACME checks cfg and sends nothing.
func NewACME(cfg ACMEConfig) (*ACME, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("certificates by ACME: %w", err)
	}
	roots, err := cfg.roots()
	if err != nil {
		return nil, fmt.Errorf("certificates by ACME: %w", err)
	}
	if err := makePrivate(cfg.Storage); err != nil {
		return nil, fmt.Errorf("certificates by ACME: storage: %w", err)
	}
	a := &ACME{
		files: &files{FileStorage: certmagic.FileStorage{Path: cfg.Storage}},
		log:   cfg.Log, hosts: make(map[string]*managedHost),
		protocols: []string{"h2", "http/1.1"},
	}
	a.names.Store(new([]string))
	a.ctx, a.cancel = context.WithCancel(context.Background())

	var ports []string
	if slices.Contains(cfg.Challenges, challengeTLSALPN) {
		a.protocols = append(a.protocols, protocolTLSALPN)
		ports = append(ports, "443")
	}
	if slices.Contains(cfg.Challenges, challengeHTTP) {
		ports = append(ports, "80")
	}
	a.hint = "to prove that the name is ours the authority must reach this server on port " + strings.Join(ports, " or ") + " of the name, and the server " + cfg.Directory

	logger := zap.New(&zapToSlog{handler: cfg.Log.Handler(), highest: slog.LevelError})
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		RenewCheckInterval: cfg.CheckInterval,
		// Let's Encrypt has ended OCSP, and nothing is stapled below.
		OCSPCheckInterval: 24 * time.Hour,
		Logger:            logger,
	})
	template := certmagic.Config{
		RenewalWindowRatio: 1. / 3,
		KeySource:          certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		OCSP:               certmagic.OCSPConfig{DisableStapling: true},
		Storage:            a.files,
		OnEvent:            a.event,
		Issuers:            []certmagic.Issuer{}, // not nil, which means the default ones
		Logger:             logger,
	}
	a.config = certmagic.New(a.cache, template)
	a.issuer = certmagic.NewACMEIssuer(a.config, certmagic.ACMEIssuer{
		CA: cfg.Directory, Email: cfg.Email, Agreed: true, TrustedRoots: roots,
		DisableHTTPChallenge:    !slices.Contains(cfg.Challenges, challengeHTTP),
		DisableTLSALPNChallenge: !slices.Contains(cfg.Challenges, challengeTLSALPN),
		AltHTTPPort:             cfg.HTTPPort,
		AltTLSALPNPort:          cfg.TLSPort,
		Logger:                  logger,
	})
	a.issuer.TestCA = "" // Let's Encrypt would be asked through its staging environment after a failure
	template.Issuers = []certmagic.Issuer{orderer{a.issuer}}
	a.config.Issuers = template.Issuers

	template.Logger = zap.New(&zapToSlog{handler: cfg.Log.Handler(), highest: slog.LevelDebug})
	a.handshakes = certmagic.New(a.cache, template)
	return a, nil
}

// An orderer does not tell the authority which certificate an order replaces, as
// certmagic does for issuers of the very type that is hidden in here. Whoever
// did not give us that one, or gave it to the account that we had under another
// email, refuses the order, and would be told again until the certificate has
// expired, and after. When the authority wants renewals (RFC 9773) is still
// asked for.
type orderer struct{ *certmagic.ACMEIssuer }

// complete fills in the defaults and refuses nonsense.
func (cfg *ACMEConfig) complete() error {
	if cfg.Directory == "" {
		cfg.Directory = certmagic.LetsEncryptProductionCA
	}
	if u, err := url.Parse(cfg.Directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("directory %q is not the URL of a directory (hint: such as %s)", cfg.Directory, certmagic.LetsEncryptProductionCA)
	}
	if addr, err := mail.ParseAddress(cfg.Email); cfg.Email != "" && (err != nil || addr.Address != cfg.Email) {
		return fmt.Errorf("%q is not an email address (hint: name@example.com, or none)", cfg.Email)
	}
	if cfg.Storage == "" {
		return errors.New("no storage (hint: name a directory; without one each start would order new certificates, and run into the authority's limits)")
	}
	if len(cfg.Challenges) == 0 {
		cfg.Challenges = []string{challengeTLSALPN}
	}
	ports := map[string]int{challengeTLSALPN: cfg.TLSPort, challengeHTTP: cfg.HTTPPort}
	for _, challenge := range cfg.Challenges {
		switch port, known := ports[challenge]; {
		case !known:
			return fmt.Errorf("challenge %q is not known (hint: %s and %s are)", challenge, challengeTLSALPN, challengeHTTP)
		case port < 1 || port > 65535:
			return fmt.Errorf("nothing listens for the challenge %s (hint: it needs a port)", challenge)
		}
	}
	switch {
	case cfg.CheckInterval == 0:
		cfg.CheckInterval = certmagic.DefaultRenewCheckInterval
	case cfg.CheckInterval < time.Second:
		return fmt.Errorf("check interval %s (hint: it takes 1s or more, 10m without)", cfg.CheckInterval)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (cfg *ACMEConfig) roots() (*x509.CertPool, error) {
	if cfg.CAFile == "" {
		return nil, nil
	}
	data, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA of the directory: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("CA of the directory: no certificate in %s (hint: it takes PEM)", cfg.CAFile)
	}
	return roots, nil
}

// makePrivate makes the directory, and refuses one that others can reach.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	// Windows knows no modes.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%s has mode %04o, so that others could reach the private keys (hint: run `chmod 700 %s`)", dir, mode, dir)
	}
	return nil
}

// Manage says which names to have certificates for from now on. It returns at
// once: certificates come from the storage or are obtained in the background,
// again and again until that works or ctx is done, and are renewed until Stop or
// until Manage is called without their name. The ports of the challenges must be
// listened on by now.
func (a *ACME) Manage(ctx context.Context, hosts []string) {
	names := make([]string, 0, len(hosts))
	wanted := make(map[string]bool, len(hosts))
	for _, host := range hosts {
		if host = canonical(host); !wanted[host] {
			wanted[host] = true
			names = append(names, host)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return
	}
	for host, h := range a.hosts {
		if !wanted[host] {
			h.cancel()
			delete(a.hosts, host)
			a.forget(host)
		}
	}
	for _, host := range names {
		if h := a.hosts[host]; h != nil && h.ctx.Err() == nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		a.hosts[host] = &managedHost{ctx: ctx, cancel: cancel}
		a.keepers.Go(func() { a.keep(ctx, host) })
	}
	a.names.Store(&names)
}

// canonical is the form in which certmagic knows a name.
func canonical(host string) string {
	host = strings.ToLower(strings.TrimSpace(host))
	if ip := net.ParseIP(host); ip != nil {
		return ip.String()
	}
	return host
}

func (a *ACME) forget(host string) {
	a.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: host}})
}

// keep ends when there is a certificate for host. Its renewal is the work of the
// cache.
func (a *ACME) keep(ctx context.Context, host string) {
	for {
		err := a.load(ctx, host)
		a.mu.Lock()
		if a.hosts[host] == nil {
			a.forget(host) // Manage came between
		}
		a.mu.Unlock()
		if err == nil {
			a.cache.RenewManagedCertificates(a.ctx) // it may be due already
			return
		}
		if ctx.Err() != nil {
			return
		}
		a.failed(host, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryInterval):
		}
	}
}

func (a *ACME) load(ctx context.Context, host string) error {
	_, err := a.config.CacheManagedCertificate(ctx, host)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		err = a.config.ObtainCertAsync(ctx, host)
	default:
		// Whoever died between writing the key and the certificate has left
		// two that do not fit.
		a.log.Warn("the stored TLS certificate cannot be used, and is replaced", "host", host, "err", err)
		err = a.config.RenewCertAsync(ctx, host, true)
	}
	if err == nil {
		_, err = a.config.CacheManagedCertificate(ctx, host)
	}
	return err
}

// event is called by certmagic, for obtaining and renewal alike.
func (a *ACME) event(_ context.Context, event string, data map[string]any) error {
	host, _ := data["identifier"].(string)
	switch event {
	case "cert_obtaining":
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.hosts[host] == nil {
			// Its last renewal was under way when Manage forgot it.
			a.forget(host)
			return fmt.Errorf("%s needs no certificate any more", host)
		}
	case "cert_obtained":
		a.log.Info("obtained a TLS certificate", "host", host, "renewal", data["renewal"])
		a.mu.Lock()
		defer a.mu.Unlock()
		if h := a.hosts[host]; h != nil {
			h.err = nil
		}
	case "cert_failed":
		if err, _ := data["error"].(error); err != nil && !errors.Is(err, context.Canceled) {
			a.failed(host, fmt.Errorf("%w (hint: %s)", err, a.hint))
		}
	}
	return nil
}

func (a *ACME) failed(host string, err error) {
	a.log.Error("no TLS certificate could be obtained", "host", host, "err", err)
	a.mu.Lock()
	defer a.mu.Unlock()
	if h := a.hosts[host]; h != nil {
		h.err = err
	}
}

// TLSConfig answers with the certificate of the name that a client asks for, and
// with the first that there is if it asks for none or another.
func (a *ACME) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.get, NextProtos: slices.Clone(a.protocols)}
}

func (a *ACME) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{protocolTLSALPN}) {
		return a.handshakes.GetCertificate(hello)
	}
	asked := hello.ServerName
	if asked == "" { // as from clients that connect to an IP address
		asked, _, _ = net.SplitHostPort(hello.Conn.LocalAddr().String())
	}
	certs := a.cache.AllMatchingCertificates(canonical(asked))
	for _, name := range *a.names.Load() {
		if len(certs) > 0 {
			break
		}
		certs = a.cache.AllMatchingCertificates(name)
	}
	if len(certs) == 0 {
		return nil, errors.New("there is no TLS certificate yet")
	}
	cert, err := certmagic.DefaultCertificateSelector(hello, certs)
	return &cert.Certificate, err
}

// Challenges answers the requests of the http-01 challenge, and has next answer
// all others.
func (a *ACME) Challenges(next http.Handler) http.Handler {
	return a.issuer.HTTPChallengeHandler(next)
}

// current is the certificate in use for host, nil if there is none.
func (a *ACME) current(host string) *x509.Certificate {
	var newest *x509.Certificate
	for _, cert := range a.cache.AllMatchingCertificates(host) {
		if newest == nil || cert.Leaf.NotAfter.After(newest.NotAfter) {
			newest = cert.Leaf
		}
	}
	return newest
}

// Status returns when each certificate expires, for readiness, and an error if
// one is missing, has expired or cannot be renewed.
func (a *ACME) Status() (string, error) {
	a.mu.Lock()
	reasons := make(map[string]error, len(a.hosts))
	for host, h := range a.hosts {
		reasons[host] = h.err
	}
	a.mu.Unlock()

	var well, ill []string
	for _, host := range slices.Sorted(maps.Keys(reasons)) {
		state, ok := describe(a.current(host), reasons[host])
		if ok {
			well = append(well, host+" "+state)
		} else {
			ill = append(ill, host+" "+state)
		}
	}
	if len(ill) > 0 {
		return "", errors.New(strings.Join(ill, "; "))
	}
	if len(well) == 0 {
		return "no name needs one", nil
	}
	return strings.Join(well, "; "), nil
}

// describe says how a certificate is. Renewal begins long before the last tenth
// of its life.
func describe(cert *x509.Certificate, reason error) (state string, ok bool) {
	now := time.Now()
	switch {
	case cert == nil:
		state = "has none yet"
	case now.After(cert.NotAfter):
		state = "expired at " + cert.NotAfter.UTC().Format(time.RFC3339)
	default:
		state = "expires at " + cert.NotAfter.UTC().Format(time.RFC3339)
		soon := cert.NotAfter.Sub(cert.NotBefore) / 10
		ok = reason == nil && cert.NotAfter.Sub(now) > soon
	}
	if reason != nil {
		state += ": " + reason.Error()
	}
	return state, ok
}

var notAfterDesc = prometheus.NewDesc("oidc_provider_tls_not_after_timestamp_seconds",
	"When the TLS certificate expires; absent while there is none.", []string{"host"}, nil)

// Metric is the time at which each certificate expires. It has the name of
// [Certificate.Metric], since a process has only either, and a label.
func (a *ACME) Metric() prometheus.Collector { return expiries{a} }

type expiries struct{ *ACME }

func (expiries) Describe(ch chan<- *prometheus.Desc) { ch <- notAfterDesc }

func (e expiries) Collect(ch chan<- prometheus.Metric) {
	for _, host := range *e.names.Load() {
		if cert := e.current(host); cert != nil {
			ch <- prometheus.MustNewConstMetric(notAfterDesc, prometheus.GaugeValue, float64(cert.NotAfter.Unix()), host)
		}
	}
}

// Stop ends obtaining and renewal. Certificates that are there stay in use. Call
// it before the ports of the challenges are given up.
func (a *ACME) Stop() {
	a.stopOnce.Do(func() {
		a.mu.Lock()
		a.stopped = true
		for _, h := range a.hosts {
			h.cancel()
		}
		a.mu.Unlock()
		a.cancel()
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			a.cache.Stop()
			a.keepers.Wait()
			a.files.close()
		}()
		select {
		case <-stopped:
		case <-time.After(stopTimeout):
			a.log.Warn("stopped without waiting for an authority that does not answer")
		}
	})
}
