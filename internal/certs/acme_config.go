package certs

import (
	"log/slog"
	"net/mail"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"

	"oidc-provider/internal/hint"
)

// The challenges with which an authority verifies that this server controls a
// name (RFC 8555, section 8, and RFC 8737), and the ALPN protocol of the second.
const (
	challengeHTTP    = "http-01"
	challengeTLSALPN = "tls-alpn-01"
	protocolTLSALPN  = "acme-tls/1"
)

// ACMEConfig says which authority an [ACME] uses, and how.
type ACMEConfig struct {
	// Directory is the https URL of the authority's ACME directory. No other
	// authority is used. Default: Let's Encrypt. The first certificate agrees to
	// the authority's terms of service.
	Directory string
	// Email is the address that the authority can write to. Default: none.
	Email string
	// Storage is the directory, of mode 0700, for the account, the keys and the
	// certificates; it is created if it does not exist. Servers that share one
	// share certificates, take turns in renewing them, and answer each other's
	// challenges, as they must behind one load balancer. Required.
	Storage string
	// CAFile is a PEM file with the CA certificates that verify the TLS
	// certificate of the directory itself, for a private authority. Default: the
	// CAs that the system trusts.
	CAFile string
	// Challenges are those that this process can answer: tls-alpn-01 with
	// [ACME.TLSConfig], which needs TLSPort, and http-01 with [ACME.Challenges],
	// which needs HTTPPort. An authority connects to the ports 443 and 80 of the
	// name. Default: tls-alpn-01.
	Challenges []string
	// TLSPort and HTTPPort are the ports that this process listens on. If
	// nothing listens on one of them, a challenge opens it on all addresses
	// until the challenge has ended.
	TLSPort, HTTPPort int
	// CheckInterval is how often certificates are checked for renewal. A
	// certificate is renewed in the last third of its life, or when its
	// authority says so (RFC 9773), and in any case when less than five
	// intervals are left: use at most a fifteenth of the life of a certificate.
	// Default 10m, right for a life of a few hours or more.
	CheckInterval time.Duration
	// Log gets a line for every certificate that was obtained or could not be.
	// Default: nothing is logged.
	Log *slog.Logger
}

// complete fills in the defaults and rejects invalid values.
func (cfg *ACMEConfig) complete() error {
	if cfg.Directory == "" {
		cfg.Directory = certmagic.LetsEncryptProductionCA
	}
	if u, err := url.Parse(cfg.Directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return hint.Errorf("set {tls.acme.directory} to an https URL such as "+certmagic.LetsEncryptProductionCA,
			"%q is not the URL of an ACME directory", cfg.Directory)
	}
	if addr, err := mail.ParseAddress(cfg.Email); cfg.Email != "" && (err != nil || addr.Address != cfg.Email) {
		return hint.Errorf("set {tls.acme.email} to name@example.com, or leave it out", "%q is not an email address",
			cfg.Email)
	}
	if cfg.Storage == "" {
		return hint.Errorf("set {tls.acme.storage} to a directory; "+
			"without one each start would order new certificates, and reach the authority's rate limits", "no storage")
	}
	if err := cfg.completeChallenges(); err != nil {
		return err
	}
	switch {
	case cfg.CheckInterval == 0:
		cfg.CheckInterval = certmagic.DefaultRenewCheckInterval
	case cfg.CheckInterval < time.Second:
		return hint.Errorf("set {tls.acme.checkInterval} to 1s or more, or leave it out, which means 10m",
			"check interval %s is too short", cfg.CheckInterval)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (cfg *ACMEConfig) completeChallenges() error {
	if len(cfg.Challenges) == 0 {
		cfg.Challenges = []string{challengeTLSALPN}
	}
	for _, challenge := range cfg.Challenges {
		port, setting := cfg.TLSPort, "{listen}"
		switch challenge {
		case challengeTLSALPN:
		case challengeHTTP:
			port, setting = cfg.HTTPPort, "{tls.acme.httpListen}"
		default:
			return hint.Errorf("set {tls.acme.challenges} to "+challengeTLSALPN+" or "+challengeHTTP,
				"unknown challenge %q", challenge)
		}
		if port < 1 || port > 65535 {
			return hint.Errorf("set "+setting, "no port for the challenge %s", challenge)
		}
	}
	return nil
}

// ports returns the ports that the authority connects to, in words.
func (cfg *ACMEConfig) ports() string {
	var ports []string
	if slices.Contains(cfg.Challenges, challengeTLSALPN) {
		ports = append(ports, "443")
	}
	if slices.Contains(cfg.Challenges, challengeHTTP) {
		ports = append(ports, "80")
	}
	return strings.Join(ports, " or ")
}

// makePrivate creates the directory, and rejects one that other users can open.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	// Windows has no modes.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return hint.Errorf("run `chmod 700 "+dir+"`", "%s has mode %04o: other users could read the private keys", dir, mode)
	}
	return nil
}
