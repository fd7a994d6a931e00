package config

import (
	"time"

	"oidc-provider/web"
)

// withDefaults fills in what is not set.
func (c *Config) withDefaults() {
	or(&c.Listen, DefaultListen)
	or(&c.AdminListen, DefaultAdminListen)
	or(&c.Readiness, "any")
	or(&c.JWKSMaxAge, Duration(DefaultJWKSMaxAge))
	or(&c.DiscoveryMaxAge, Duration(DefaultDiscoveryMaxAge))
	or(&c.StateDir, "oidc-provider-state")
	if c.TLS != nil && c.TLS.ACME != nil {
		a := c.TLS.ACME
		or(&a.Storage, "oidc-provider-acme")
		or(&a.CheckInterval, Duration(10*time.Minute))
		if len(a.Challenges) == 0 {
			a.Challenges = []string{TLSALPN01}
		}
		if a.answers(HTTP01) {
			or(&a.HTTPListen, ":80")
		}
	}
	for i := range c.Issuers {
		c.Issuers[i].withDefaults(c)
	}
}

// withDefaults fills in what is not set, from c where that has it.
func (i *Issuer) withDefaults(c *Config) {
	or(&i.JWKSMaxAge, c.JWKSMaxAge)
	or(&i.DiscoveryMaxAge, c.DiscoveryMaxAge)
	if i.Managed != nil {
		or(&i.Managed.RefreshHint, Duration(DefaultRefreshHint))
	}
	if i.APIServer != nil {
		or(&i.APIServer.Interval, Duration(10*time.Second))
	}
	if i.Files != nil {
		or(&i.Files.Interval, Duration(time.Second))
	}
	if i.URL != nil {
		or(&i.URL.Interval, Duration(time.Minute))
	}
}

// Defaults that flags have as well.
const (
	DefaultListen          = "127.0.0.1:8080"
	DefaultAdminListen     = "127.0.0.1:8081"
	DefaultJWKSMaxAge      = web.DefaultJWKSMaxAge
	DefaultDiscoveryMaxAge = web.DefaultDiscoveryMaxAge
	DefaultRefreshHint     = time.Minute
	DefaultShutdownDelay   = 3 * time.Second
)

// The challenges of RFC 8555, section 8.3, and RFC 8737.
const (
	HTTP01    = "http-01"
	TLSALPN01 = "tls-alpn-01"
)

func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
