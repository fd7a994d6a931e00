package check

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// certificate verifies every chain that was served.
func certificate(o *Observation, d *Document) Result {
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "https" {
		return skip("not https")
	}
	shown := d.chains()
	if len(shown) == 0 {
		return skip("no certificate was shown")
	}
	for _, a := range shown {
		if _, err := a.verify(o, u.Hostname()); err != nil {
			return badChain(a, err)
		}
	}
	if len(shown) > 1 {
		return pass("%d chains, each of them valid", len(shown))
	}
	leaf := shown[0].Chain[0]
	return pass("by %s, until %s", name(leaf.Issuer.String()), leaf.NotAfter.UTC().Format(time.RFC3339))
}

// chains are the answers with certificates, but none with a chain that another
// has.
func (d *Document) chains() (answers []*Answer) {
	seen := map[string]bool{}
	for i := range d.Answers {
		a := &d.Answers[i]
		var all []byte
		for _, c := range a.Chain {
			all = append(all, c.Raw...)
		}
		if len(all) > 0 && !seen[string(all)] {
			seen[string(all)] = true
			answers = append(answers, a)
		}
	}
	return answers
}

// verify returns the chains from the certificate that was shown to a root.
func (a *Answer) verify(o *Observation, host string) ([][]*x509.Certificate, error) {
	intermediates := x509.NewCertPool()
	for _, c := range a.Chain[1:] {
		intermediates.AddCert(c)
	}
	return a.Chain[0].Verify(x509.VerifyOptions{
		DNSName: host, Roots: o.Options.Roots, Intermediates: intermediates, CurrentTime: o.Time,
	})
}

func badChain(a *Answer, err error) Result {
	const why = "every relying party refuses the connection"
	last := a.Chain[len(a.Chain)-1]
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fail(fmt.Sprintf("%s: expired or not yet valid: %s (%s to %s)", a.Address, name(invalid.Cert.Subject.String()),
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339)), why, "renew it, and look at the clocks")
	case errors.As(err, &host):
		return fail(fmt.Sprintf("%s: it is for %s, not for %s", a.Address, list(host.Certificate.DNSNames), host.Host), why, "get a certificate with the issuer's host in it")
	case errors.As(err, &unknown) && len(a.Chain) == 1 && !selfSigned(last):
		return fail(fmt.Sprintf("%s: only the certificate itself was sent, and its issuer %s is not known", a.Address, name(last.Issuer.String())), why,
			"serve the intermediate certificates behind it, in the same file; if the CA is your own, give --ca-file")
	case errors.As(err, &unknown):
		return fail(fmt.Sprintf("%s: the chain ends at %s, which is not known", a.Address, name(last.Issuer.String())), why,
			"serve all intermediate certificates; if the CA is your own, give --ca-file")
	}
	return fail(fmt.Sprintf("%s: %.200s", a.Address, reason(err)), why, "get another certificate")
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

func tlsVersion(_ *Observation, d *Document) Result {
	lowest := uint16(0)
	for i := range d.Answers {
		if v := d.Answers[i].TLS; v != 0 && (lowest == 0 || v < lowest) {
			lowest = v
		}
	}
	switch {
	case lowest == 0:
		return skip("no TLS")
	case lowest < tls.VersionTLS12:
		return fail(tls.VersionName(lowest), "most clients refuse anything before TLS 1.2", "switch TLS 1.2 and 1.3 on")
	}
	return pass("%s", tls.VersionName(lowest))
}

// expiry wants a sixth of the certificate's life, but not more than a week:
// whoever renews in time has more left. What else a server sends may have ended
// long ago: nobody needs it.
func expiry(o *Observation, d *Document) Result {
	u, err := url.Parse(d.URL)
	if err != nil {
		return skip("no host")
	}
	var soonest *x509.Certificate
	for _, a := range d.chains() {
		var last *x509.Certificate // to end, of the chain that is valid for longest
		chains, _ := a.verify(o, u.Hostname())
		for _, chain := range chains {
			first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
			if last == nil || first.NotAfter.After(last.NotAfter) {
				last = first
			}
		}
		if last != nil && (soonest == nil || last.NotAfter.Before(soonest.NotAfter)) {
			soonest = last
		}
	}
	if soonest == nil {
		return skip("no valid certificate was shown")
	}
	left := soonest.NotAfter.Sub(o.Time)
	if left < min(soonest.NotAfter.Sub(soonest.NotBefore)/6, 7*24*time.Hour) {
		return warn(fmt.Sprintf("%s is valid for %v more", name(soonest.Subject.String()), left.Round(time.Minute)),
			"it should have been renewed, and when it ends every relying party fails", "renew it")
	}
	return pass("valid until %s", soonest.NotAfter.UTC().Format(time.RFC3339))
}
