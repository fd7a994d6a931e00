package certs

import (
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/internal/hint"
)

// current returns the certificate in use for host, or nil.
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
	failures := make(map[string]error, len(a.hosts))
	for host, h := range a.hosts {
		failures[host] = h.err
	}
	a.mu.Unlock()
	if len(failures) == 0 {
		return "no name needs one", nil
	}
	var healthy, unhealthy []string
	var reasons []error
	for _, host := range slices.Sorted(maps.Keys(failures)) {
		if state, ok := describe(a.current(host), failures[host]); ok {
			healthy = append(healthy, host+" "+state)
		} else {
			unhealthy = append(unhealthy, host+" "+state)
			reasons = append(reasons, failures[host])
		}
	}
	if len(unhealthy) > 0 {
		return "", hint.Wrap(errors.New(strings.Join(unhealthy, "; ")), hint.Of(errors.Join(reasons...)))
	}
	return strings.Join(healthy, "; "), nil
}

// describe returns the state of a certificate in words, and whether it is
// healthy. Renewal starts long before the last tenth of its life.
func describe(cert *x509.Certificate, failure error) (state string, ok bool) {
	now := time.Now()
	switch {
	case cert == nil:
		state = "has none yet"
	case now.After(cert.NotAfter):
		state = "expired at " + cert.NotAfter.UTC().Format(time.RFC3339)
	default:
		state = "expires at " + cert.NotAfter.UTC().Format(time.RFC3339)
		soon := cert.NotAfter.Sub(cert.NotBefore) / 10
		ok = failure == nil && cert.NotAfter.Sub(now) > soon
	}
	if failure != nil {
		state += ": " + failure.Error()
	}
	return state, ok
}

var notAfterDesc = prometheus.NewDesc("oidc_provider_tls_not_after_timestamp_seconds",
	"Time when the TLS certificate of the host expires; absent if it has none yet.", []string{"host"}, nil)

// Metric returns the time when each certificate expires. It has the name of
// [Certificate.Metric], since a process has only one of them, and a label.
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
