package check

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/cachecontrol/cacheobject"
)

// documentChecks look at how a document is served, whatever is in it. what is
// discovery or jwks.
func documentChecks(what string, of func(*Observation) *Document) []Check {
	check := func(name, asks string, look func(*Observation, *Document) Result) Check {
		return Check{ID: what + "/" + name, Asks: asks, look: func(o *Observation) Result {
			d := of(o)
			if !d.asked() {
				return skip("nothing to ask")
			}
			return look(o, d)
		}}
	}
	answered := func(name, asks string, look func(*Observation, *Document) Result) Check {
		return check(name, asks, func(o *Observation, d *Document) Result {
			if d.first() == nil {
				return skip("no answer to look at")
			}
			return look(o, d)
		})
	}
	good := func(name, asks string, look func(*Observation, *Document) Result) Check {
		return check(name, asks, func(o *Observation, d *Document) Result {
			if d.Body == nil {
				return skip("no document to look at")
			}
			return look(o, d)
		})
	}
	checks := []Check{
		check("certificate", "Is the certificate valid for the host, and its chain whole?", certificate),
		check("tls", "Is TLS 1.2 or later spoken?", tlsVersion),
		check("answer", "Does every address answer, every time, and in time?", answers),
		check("expiry", "Is the certificate valid for some time yet?", expiry),
		answered("redirect", "Is it where it should be, without a redirect?", redirect),
		answered("status", "Is the status 200?", status),
		good("content-type", "Is the Content-Type JSON?", contentType(what)),
		good("encoding", "Does a client that asked for no compression get none?", encoding),
		good("same", "Is the answer the same from every address, and every time?", same),
		good("http10", "Do clients of HTTP/1.0 get it?", http10),
		good("cache", "Is it cached for no longer than a key is published ahead, and for long enough?", cache),
		answered("size", "Is it small enough?", size),
		good("latency", "Is the answer fast?", latency),
	}
	if what == "jwks" {
		checks = append([]Check{check("addresses", "Does the host of the key set have addresses that can be reached?", func(o *Observation, d *Document) Result {
			if slices.Equal(d.Addresses, o.Configuration.Addresses) {
				return skip("those of the issuer")
			}
			return addresses(d)
		})}, checks...)
	}
	return checks
}

// answers judges what did not come.
func answers(o *Observation, d *Document) Result {
	if d.ResolveErr != nil {
		return skip("no address to ask")
	}
	var came int
	var failed, noRoute []string
	for i := range d.Answers {
		switch a := &d.Answers[i]; {
		case a.Err == nil:
			came++
		case a.NoRoute:
			noRoute = append(noRoute, a.Address)
		default:
			failed = append(failed, fmt.Sprintf("%s: %.200s", a.Address, reason(a.Err)))
		}
	}
	if came == 0 && len(failed) == 0 {
		return skip("this machine has no way to %s", list(noRoute))
	}
	seen := fmt.Sprintf("%d answers from %s", came, list(d.Addresses))
	if len(noRoute) > 0 {
		seen += "; this machine has no way to " + list(noRoute)
	}
	if len(failed) > 0 {
		return fail(fmt.Sprintf("%d answers; %s (waited %v)", came, list(failed), o.Options.Timeout),
			"AWS STS waits 5s, others less, and none asks another address of yours", "mend the server, or take the address out of DNS")
	}
	return pass("%s", seen)
}

func (d *Document) unreachable() string {
	if d.ResolveErr != nil {
		return d.ResolveErr.Error()
	}
	var all []string
	for i := range d.Answers {
		all = append(all, fmt.Sprintf("%s: %.200s", d.Answers[i].Address, reason(d.Answers[i].Err)))
	}
	return list(all)
}

// reason is the end of an error, where it says what happened.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return name(err.Error())
		}
		err = inner
	}
}

// certificate verifies every chain that was served.
func certificate(o *Observation, d *Document) Result {
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "https" {
		return skip("not https")
	}
	seen := map[string]bool{}
	var subject string
	for i := range d.Answers {
		a := &d.Answers[i]
		if len(a.Chain) == 0 || seen[string(a.Chain[0].Raw)] {
			continue
		}
		seen[string(a.Chain[0].Raw)] = true
		intermediates := x509.NewCertPool()
		for _, c := range a.Chain[1:] {
			intermediates.AddCert(c)
		}
		_, err := a.Chain[0].Verify(x509.VerifyOptions{
			DNSName: u.Hostname(), Roots: o.Options.Roots, Intermediates: intermediates, CurrentTime: o.Time,
		})
		if err != nil {
			return badChain(a, err)
		}
		subject = fmt.Sprintf("by %s, until %s", name(a.Chain[0].Issuer.String()), a.Chain[0].NotAfter.UTC().Format(time.RFC3339))
	}
	if subject == "" {
		return skip("no certificate was shown")
	}
	if len(seen) > 1 {
		return pass("%d certificates, each of them valid", len(seen))
	}
	return pass("%s", subject)
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
// whoever renews in time has more left.
func expiry(o *Observation, d *Document) Result {
	var soonest *x509.Certificate
	for i := range d.Answers {
		for _, c := range d.Answers[i].Chain {
			if soonest == nil || c.NotAfter.Before(soonest.NotAfter) {
				soonest = c
			}
		}
	}
	if soonest == nil {
		return skip("no certificate was shown")
	}
	left := soonest.NotAfter.Sub(o.Time)
	if left < 0 {
		return skip("expired")
	}
	if left < min(soonest.NotAfter.Sub(soonest.NotBefore)/6, 7*24*time.Hour) {
		return warn(fmt.Sprintf("%s is valid for %v more", name(soonest.Subject.String()), left.Round(time.Minute)),
			"it should have been renewed, and when it ends every relying party fails", "renew it")
	}
	return pass("valid until %s", soonest.NotAfter.UTC().Format(time.RFC3339))
}

func redirect(_ *Observation, d *Document) Result {
	for i := range d.Answers {
		if a := &d.Answers[i]; a.Err == nil && a.Status >= 300 && a.Status < 400 {
			return fail(fmt.Sprintf("%s: status %d to %.200q", a.Address, a.Status, a.header("Location")),
				"some relying parties follow it, to wherever it leads, and others (jose) refuse", "serve the document at "+d.URL+" itself")
		}
	}
	return pass("no redirect")
}

func status(_ *Observation, d *Document) Result {
	for i := range d.Answers {
		a := &d.Answers[i]
		if a.Err != nil || a.Status == 200 || a.Status >= 300 && a.Status < 400 {
			continue
		}
		do := "serve the document at " + d.URL
		switch a.Status {
		case 401, 403:
			do = "let everybody read it: it is public. kube-apiserver itself asks for a login (`oidc-provider` publishes its keys without)"
		case 429:
			do = "allow more requests: AWS STS asks in bursts"
		}
		return fail(fmt.Sprintf("%s: status %d", a.Address, a.Status), "relying parties need 200", do)
	}
	return pass("200")
}

func tooLong(d *Document) bool {
	return slices.ContainsFunc(d.Answers, func(a Answer) bool { return a.TooLong })
}

func contentType(what string) func(*Observation, *Document) Result {
	return func(_ *Observation, d *Document) Result {
		got := d.first().header("Content-Type")
		media, params, err := mime.ParseMediaType(got)
		want := []string{"application/json"}
		if what == "jwks" {
			want = append(want, "application/jwk-set+json")
		}
		switch charset := params["charset"]; {
		case err != nil || !slices.Contains(want, media):
			r := fail(fmt.Sprintf("Content-Type %.100q", got), "relying parties that look at it want "+strings.Join(want, " or "), "set it, also in the bucket or web server")
			if what == "jwks" && media != "text/html" { // RFC 7517, section 8.5.2, registers it and requires nothing
				r.Status = Warn
			}
			return r
		case charset != "" && !strings.EqualFold(charset, "utf-8"):
			return fail(fmt.Sprintf("Content-Type %.100q", got), "JSON is UTF-8 (RFC 8259, section 8.1)", "leave charset out")
		}
		return pass("%s", got)
	}
}

// encoding looks at the answers to requests without Accept-Encoding. For the
// others the transport has unpacked what came.
func encoding(_ *Observation, d *Document) Result {
	for i := range d.Answers {
		if a := &d.Answers[i]; a.good() && a.header("Content-Encoding") != "" && !strings.EqualFold(a.header("Content-Encoding"), "identity") {
			return fail(fmt.Sprintf("%s: Content-Encoding %.40q, and none was asked for", a.Address, a.header("Content-Encoding")),
				"clients without compression, Envoy and curl among them, see no JSON", "compress for those alone that send Accept-Encoding, or not at all")
		}
	}
	return pass("plain bytes")
}

func same(o *Observation, d *Document) Result {
	first := d.first()
	for i := range d.Answers {
		a := &d.Answers[i]
		if !a.good() || bytes.Equal(a.Body, d.Body) {
			continue
		}
		seen := fmt.Sprintf("%s and %s answer differently", first.Address, a.Address)
		if first.Address == a.Address {
			seen = a.Address + " answers differently from one time to the next"
		}
		if lacks := missing(d.Body, a.Body); lacks != "" {
			seen += ": " + lacks
		}
		return fail(seen, "a relying party that asks the wrong one refuses tokens by the key that it lacks, or believes in one that is revoked",
			"look for a replica or a cache that is behind")
	}
	return pass("%d times the same", len(d.Answers))
}

// missing says which kid one of two key sets has and the other has not.
func missing(a, b []byte) string {
	kids := func(data []byte) (kids []string) {
		keys, _ := parseKeySet(data)
		for _, k := range keys {
			kids = append(kids, k.KeyID)
		}
		return kids
	}
	one, other := kids(a), kids(b)
	for range 2 {
		for _, kid := range one {
			if !slices.Contains(other, kid) {
				return fmt.Sprintf("one of them lacks key %.64q", kid)
			}
		}
		one, other = other, one
	}
	return ""
}

func http10(_ *Observation, d *Document) Result {
	if d.HTTP10 == nil {
		return skip("not asked, through a proxy")
	}
	a := d.HTTP10
	const why = "old proxies and health checks speak it, and so do nginx and HAProxy upstream unless told otherwise"
	const do = "answer HTTP/1.0 with a plain body and Content-Length"
	switch {
	case a.Err != nil:
		return warn(fmt.Sprintf("%s: %.200s", a.Address, reason(a.Err)), why, do)
	case a.Status != 200:
		return warn(fmt.Sprintf("%s: status %d", a.Address, a.Status), why, do)
	case len(a.Transfer) > 0:
		return warn(fmt.Sprintf("%s: Transfer-Encoding %.40q, which HTTP/1.0 does not have", a.Address, a.Transfer), why, do)
	case a.header("Content-Encoding") != "":
		return warn(fmt.Sprintf("%s: Content-Encoding %.40q", a.Address, a.header("Content-Encoding")), why, do)
	case !bytes.Equal(a.Body, d.Body):
		return warn(fmt.Sprintf("%s: %d other bytes than for HTTP/1.1", a.Address, len(a.Body)), why, do)
	}
	return pass("the same")
}

// cache holds the headers against the time for which a key is published before
// it signs: whoever keeps the document for longer meets tokens of a key that
// he does not know (RFC 9111, section 4.2).
func cache(o *Observation, d *Document) Result {
	first := d.first()
	raw := first.header("Cache-Control")
	control, err := cacheobject.ParseResponseCacheControl(raw)
	if err != nil {
		return fail(fmt.Sprintf("Cache-Control %.100q: %.100s", raw, err), "caches guess what it means", "send `public, max-age=300`")
	}
	seen := fmt.Sprintf("Cache-Control %.100q", raw)
	ahead := o.Options.PublishAhead
	seconds := func(n cacheobject.DeltaSeconds) time.Duration { return time.Duration(max(n, 0)) * time.Second }
	fresh := seconds(control.MaxAge)
	switch {
	case control.NoStore || control.NoCachePresent || control.MaxAge == 0:
		return warn(seen, "every verification asks the server: it must bear that, and be up", "send `public, max-age=300`")
	case control.SMaxAge >= 0 && control.SMaxAge != control.MaxAge:
		return fail(seen, "a shared cache keeps it for s-maxage, and relying parties for max-age from then on", "leave s-maxage out")
	case control.MaxAge < 0 && first.header("Expires") == "" && first.header("Last-Modified") != "":
		return fail("Last-Modified without Cache-Control", "caches keep it for a tenth of its age, which may be weeks (RFC 9111, section 4.2.2)", "send `public, max-age=300`")
	case control.MaxAge < 0 && first.header("Expires") == "":
		return warn("no Cache-Control", "every relying party and every cache on the way keeps it for as long as it likes", "send `public, max-age=300`")
	case control.MaxAge < 0:
		expires, err := time.Parse(time.RFC1123, first.header("Expires"))
		if err != nil {
			return fail(fmt.Sprintf("Expires %.60q", first.header("Expires")), "it is no date (RFC 9110, section 5.6.7)", "send `public, max-age=300`")
		}
		fresh, seen = expires.Sub(o.Time), "Expires "+first.header("Expires")
	}
	longest := fresh + max(seconds(control.StaleWhileRevalidate), 0)
	switch {
	case longest > ahead:
		return fail(seen, fmt.Sprintf("that is longer than keys are published before they sign (%v): who caches it refuses new tokens", ahead), "make it shorter, or say with --publish-ahead that you publish earlier")
	case longest > ahead/2:
		return warn(seen, fmt.Sprintf("that is more than half of the time that keys are published before they sign (%v), and caches add up", ahead), "make it shorter")
	case fresh < 10*time.Second:
		return warn(seen, "nearly every verification asks the server", "send `public, max-age=300`")
	}
	return pass("%s", seen)
}

func size(_ *Observation, d *Document) Result {
	const do = "publish fewer keys, without certificates"
	if tooLong(d) {
		return fail(fmt.Sprintf("more than %d bytes", maxDocument), "no relying party reads that", do)
	}
	if len(d.Body) > 32<<10 {
		return warn(fmt.Sprintf("%d bytes", len(d.Body)), "nginx stops at 32768, older Nimbus (Spring) at 51200", do)
	}
	return pass("%d bytes", len(d.Body))
}

// latency judges the median of connection, handshake and answer together.
func latency(_ *Observation, d *Document) Result {
	var all []time.Duration
	for i := range d.Answers {
		if a := &d.Answers[i]; a.Err == nil {
			all = append(all, a.Latency)
		}
	}
	slices.Sort(all)
	median := all[len(all)/2]
	seen := fmt.Sprintf("median %v, slowest %v, with the connection", median.Round(100*time.Microsecond), all[len(all)-1].Round(100*time.Microsecond))
	if median > 500*time.Millisecond {
		return warn(seen, "older Nimbus (Spring) gives up after 500ms, and every first verification waits", "serve it from memory, near to who asks")
	}
	return pass("%s", seen)
}
