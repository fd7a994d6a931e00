package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
)

const (
	// retryInterval is the pause after a local failure, such as a full disk.
	// After an authority's refusal the pause is one minute at first, and up to
	// six hours.
	retryInterval = time.Minute

	// stopTimeout is how long Stop waits for an authority that does not answer.
	stopTimeout = 5 * time.Second
)

// An ACME obtains TLS certificates from an authority and renews them.
type ACME struct {
	config     *certmagic.Config
	handshakes *certmagic.Config // the same, for what clients ask for: it logs at debug
	issuer     *certmagic.ACMEIssuer
	cache      *certmagic.Cache
	storage    *storage
	protocols  []string
	hint       string // for every refusal of the authority
	log        *slog.Logger

	names    atomic.Pointer[[]string] // the keys of hosts, in the order of Manage
	ctx      context.Context          // of all renewals, until Stop
	cancel   context.CancelFunc
	obtains  sync.WaitGroup
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

// NewACME checks cfg. It sends nothing.
func NewACME(cfg ACMEConfig) (*ACME, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("certificates by ACME: %w", err)
	}
	roots, err := httpclient.CAPool(cfg.CAFile)
	if err != nil {
		return nil, hint.Errorf("set {tls.acme.caFile} to a PEM file, or leave it out", "certificates by ACME: %w", err)
	}
	if err := makePrivate(cfg.Storage); err != nil {
		return nil, fmt.Errorf("certificates by ACME: storage: %w", err)
	}
	a := &ACME{
		storage: &storage{FileStorage: certmagic.FileStorage{Path: cfg.Storage}},
		log:     cfg.Log, hosts: make(map[string]*managedHost),
		protocols: []string{"h2", "http/1.1"},
		hint: fmt.Sprintf("the authority must be able to reach this server on port %s of that name, and this server %s",
			cfg.ports(), cfg.Directory),
	}
	if slices.Contains(cfg.Challenges, challengeTLSALPN) {
		a.protocols = append(a.protocols, protocolTLSALPN)
	}
	a.names.Store(new([]string))
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.configure(&cfg, roots)
	return a, nil
}

// configure makes the parts of certmagic.
func (a *ACME) configure(cfg *ACMEConfig, roots *x509.CertPool) {
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
		Storage:            a.storage,
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
	a.issuer.TestCA = "" // else certmagic uses the staging environment of Let's Encrypt after a failure
	template.Issuers = []certmagic.Issuer{orderer{a.issuer}}
	a.config.Issuers = template.Issuers

	template.Logger = zap.New(&zapToSlog{handler: cfg.Log.Handler(), highest: slog.LevelDebug})
	a.handshakes = certmagic.New(a.cache, template)
}

// An orderer does not tell the authority which certificate an order replaces.
// certmagic does, for issuers of exactly the type that is hidden in here. An
// authority that did not issue that certificate, or issued it to the account of
// another email address, rejects the order, and would reject it again until
// after the certificate has expired. The time when the authority wants renewals
// (RFC 9773) is still requested.
type orderer struct{ *certmagic.ACMEIssuer }

// Manage sets the names that have certificates from now on. It returns
// immediately: certificates are loaded from the storage or obtained in the
// background, with retries until that succeeds or ctx is done, and are renewed
// until Stop or until Manage is called without their name. The ports of the
// challenges must be open already.
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
		a.obtains.Go(func() { a.obtain(ctx, host) })
	}
	a.names.Store(&names)
}

// canonical returns host in the form that certmagic uses.
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

// obtain returns when host has a certificate. The cache renews it.
func (a *ACME) obtain(ctx context.Context, host string) {
	for {
		err := a.loadOrObtain(ctx, host)
		a.mu.Lock()
		if a.hosts[host] == nil {
			a.forget(host) // Manage removed it meanwhile
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

func (a *ACME) loadOrObtain(ctx context.Context, host string) error {
	_, err := a.config.CacheManagedCertificate(ctx, host)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		err = a.config.ObtainCertAsync(ctx, host)
	default:
		// A process that ended between writing the key and the certificate has
		// left two that do not match.
		a.log.Warn("the stored TLS certificate is invalid, replacing it", "host", host, "err", err)
		err = a.config.RenewCertAsync(ctx, host, true)
	}
	if err == nil {
		_, err = a.config.CacheManagedCertificate(ctx, host)
	}
	return err
}

// event handles the events of certmagic, for obtaining and renewal alike.
func (a *ACME) event(_ context.Context, event string, data map[string]any) error {
	host, _ := data["identifier"].(string)
	switch event {
	case "cert_obtaining":
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.hosts[host] == nil {
			// Its last renewal was running when Manage removed it.
			a.forget(host)
			return fmt.Errorf("%s no longer needs a certificate", host)
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
			a.failed(host, hint.Wrap(err, a.hint))
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

// TLSConfig serves the certificate of the name that a client requests. A client
// that requests no name, or another one, gets the first certificate.
func (a *ACME) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: a.get, NextProtos: slices.Clone(a.protocols)}
}

func (a *ACME) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{protocolTLSALPN}) {
		return a.handshakes.GetCertificate(hello)
	}
	requested := hello.ServerName
	if requested == "" { // as from clients that connect to an IP address
		requested, _, _ = net.SplitHostPort(hello.Conn.LocalAddr().String())
	}
	certs := a.cache.AllMatchingCertificates(canonical(requested))
	for _, name := range *a.names.Load() {
		if len(certs) > 0 {
			break
		}
		certs = a.cache.AllMatchingCertificates(name)
	}
	if len(certs) == 0 {
		return nil, errors.New("no TLS certificate yet")
	}
	cert, err := certmagic.DefaultCertificateSelector(hello, certs)
	return &cert.Certificate, err
}

// Challenges returns a handler that answers the requests of the http-01
// challenge, and passes all others to next.
func (a *ACME) Challenges(next http.Handler) http.Handler {
	return a.issuer.HTTPChallengeHandler(next)
}

// Stop ends obtaining and renewal. Certificates that exist stay in use. Call it
// before you close the ports of the challenges.
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
			a.obtains.Wait()
			a.storage.close()
		}()
		select {
		case <-stopped:
		case <-time.After(stopTimeout):
			a.log.Warn("stopped without waiting for an authority that does not answer")
		}
	})
}
