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

// certificate verifies every chain that the servers sent.
func certificate(o *Observation, d *Document) Result {
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "https" {
		return skip("not https")
	}
	sent := d.chains()
	if len(sent) == 0 {
		return skip("no server sent a certificate")
	}
	for _, a := range sent {
		if _, err := a.verify(o, u.Hostname()); err != nil {
			return badChain(a, err)
		}
	}
	if len(sent) > 1 {
		return pass("%d chains, all valid", len(sent))
	}
	leaf := sent[0].Chain[0]
	return pass("issued by %s, valid until %s", name(leaf.Issuer.String()), timestamp(leaf.NotAfter))
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// chains returns the answers with certificates, one for each distinct chain.
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

// verify returns the chains from the server's certificate to a root.
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
	refuse := func(do, format string, args ...any) Result {
		return fail(a.Address+": "+fmt.Sprintf(format, args...), "every relying party refuses the connection", do)
	}
	const privateCA = "if the CA is private, name it with {option.caFile}"
	last := a.Chain[len(a.Chain)-1]
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		c := invalid.Cert
		return refuse("renew it, and compare the clocks", "expired or not yet valid: %s (%s to %s)",
			name(c.Subject.String()), timestamp(c.NotBefore), timestamp(c.NotAfter))
	case errors.As(err, &host):
		return refuse("get a certificate for the host of the issuer", "the certificate is for %s, not for %s",
			list(host.Certificate.DNSNames), host.Host)
	case errors.As(err, &unknown) && len(a.Chain) == 1 && !selfSigned(last):
		return refuse("append the intermediate certificates to the server's certificate file; "+privateCA,
			"the server sent only its own certificate, and its issuer %s is not trusted", name(last.Issuer.String()))
	case errors.As(err, &unknown):
		return refuse("append all intermediate certificates to the server's certificate file; "+privateCA,
			"the chain ends at %s, which is not trusted", name(last.Issuer.String()))
	}
	return refuse("get another certificate", "%.200s", reason(err))
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
		return fail(tls.VersionName(lowest), "most clients refuse versions before TLS 1.2", "enable TLS 1.2 and 1.3")
	}
	return pass("%s", tls.VersionName(lowest))
}

// expiry wants a sixth of the certificate's life to remain, but at most a week:
// timely renewal leaves more. Certificates that no valid chain needs may have
// expired long ago.
func expiry(o *Observation, d *Document) Result {
	u, err := url.Parse(d.URL)
	if err != nil {
		return skip("no host")
	}
	soonest := d.soonestExpiry(o, u.Hostname())
	if soonest == nil {
		return skip("no server sent a valid certificate")
	}
	left := soonest.NotAfter.Sub(o.Time)
	if left < min(soonest.NotAfter.Sub(soonest.NotBefore)/6, 7*24*time.Hour) {
		return warn(fmt.Sprintf("%s expires in %v", name(soonest.Subject.String()), left.Round(time.Minute)),
			"it should have been renewed already: once it has expired, every relying party fails", "renew it")
	}
	return pass("valid until %s", timestamp(soonest.NotAfter))
}

// soonestExpiry returns the certificate that ends the first of the chains, nil
// if no chain is valid. Of several chains to a root, the one that is valid for
// longest counts.
func (d *Document) soonestExpiry(o *Observation, host string) (soonest *x509.Certificate) {
	byExpiry := func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }
	for _, a := range d.chains() {
		var last *x509.Certificate
		chains, _ := a.verify(o, host)
		for _, chain := range chains {
			first := slices.MinFunc(chain, byExpiry)
			if last == nil || first.NotAfter.After(last.NotAfter) {
				last = first
			}
		}
		if last != nil && (soonest == nil || last.NotAfter.Before(soonest.NotAfter)) {
			soonest = last
		}
	}
	return soonest
}
