package check

import (
	"fmt"
	"mime"
	"slices"
	"strings"
	"time"
)

type documentLook = func(*Observation, *Document) Result

// documentChecks look at how a document is served, regardless of its contents.
// what is discovery or jwks.
func documentChecks(what string, of func(*Observation) *Document) []Check {
	needs := func(has func(*Document) bool, without string) func(name, asks string, look documentLook) Check {
		return func(name, asks string, look documentLook) Check {
			return Check{ID: what + "/" + name, Asks: asks, look: func(o *Observation) Result {
				switch d := of(o); {
				case !d.asked():
					return skip("no request was sent")
				case !has(d):
					return skip("%s", without)
				default:
					return look(o, d)
				}
			}}
		}
	}
	asked := needs(func(d *Document) bool { return true }, "")
	answered := needs(func(d *Document) bool { return d.first() != nil }, "no answer")
	good := needs(func(d *Document) bool { return d.Body != nil }, "no document")
	each := func(name, asks string, look func(*Observation, *Answer) Result) Check {
		return good(name, asks, func(o *Observation, d *Document) Result { return d.worst(o, look) })
	}
	checks := []Check{
		asked("certificate", "Is the certificate valid for the host, and its chain complete?", certificate).
			with(Traits{Decisive: true, Authenticates: true}),
		asked("tls", "Does the server use TLS 1.2 or later?", tlsVersion),
		asked("answer", "Does every address answer every request in time?", answers).with(Traits{Volatile: true}),
		asked("expiry", "Does the certificate expire late enough?", expiry).with(Traits{Volatile: true}),
		answered("redirect", "Is the document at its URL, without a redirect?", redirect),
		answered("status", "Is the status 200?", status),
		each("content-type", "Is the Content-Type JSON?", contentType(what)),
		each("encoding", "Does a client that asks for no compression get none?", encoding),
		good("same", "Is the answer the same from every address, every time?", same),
		good("http10", "Do HTTP/1.0 clients get the document?", http10),
		each("cache", "Is it cached long enough, but no longer than keys are published before they sign?", cache),
		answered("size", "Is it small enough?", size),
		good("latency", "Is the answer fast?", latency).with(Traits{Volatile: true}),
	}
	if what == "jwks" {
		own := asked("addresses", "Does the host of the key set have addresses that relying parties can reach?", ownAddresses)
		checks = append([]Check{own}, checks...)
	}
	return checks
}

// ownAddresses judges the addresses of the key set if they differ from those of
// the discovery document.
func ownAddresses(o *Observation, d *Document) Result {
	if slices.Equal(d.Addresses, o.Discovery.Addresses) {
		return skip("the same as for the issuer")
	}
	return addresses(d)
}

// good returns the number of good answers.
func (d *Document) good() (n int) {
	for i := range d.Answers {
		if d.Answers[i].good() {
			n++
		}
	}
	return n
}

// worst returns the worst result over the good answers.
func (d *Document) worst(o *Observation, look func(*Observation, *Answer) Result) (worst Result) {
	rank := map[Status]int{Pass: 1, Warn: 2, Fail: 3}
	for i := range d.Answers {
		a := &d.Answers[i]
		if !a.good() {
			continue
		}
		r := look(o, a)
		if rank[r.Status] <= rank[worst.Status] {
			continue
		}
		if worst = r; len(d.Addresses) > 1 && r.Status != Pass {
			worst.Seen = a.Address + ": " + r.Seen
		}
	}
	return worst
}

// answers judges the requests that got no answer.
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
		return skip("this machine has no route to %s", list(noRoute))
	}
	seen := fmt.Sprintf("%d answers from %s", came, list(d.Addresses))
	if len(noRoute) > 0 {
		seen += "; this machine has no route to " + list(noRoute)
	}
	if len(failed) > 0 {
		return fail(fmt.Sprintf("%d answers in %v; %s", came, o.Options.Timeout, list(failed)),
			"a relying party that asks there gets no keys: AWS STS waits 5s, others less, and many try only one address",
			"repair the server, or remove the address from DNS")
	}
	return pass("%s", seen)
}

func redirect(_ *Observation, d *Document) Result {
	for i := range d.Answers {
		if a := &d.Answers[i]; a.Err == nil && a.Status >= 300 && a.Status < 400 {
			return fail(fmt.Sprintf("%s: status %d to %.200q", a.Address, a.Status, a.header("Location")),
				"some relying parties follow it, wherever it leads, and others (jose) refuse it",
				"serve the document at "+d.URL+" itself")
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
			do = "serve it without a login: it is public. kube-apiserver itself asks for a login; " +
				"`oidc-provider` publishes its keys without one"
		case 429:
			do = "allow more requests: AWS STS asks in bursts"
		}
		return fail(fmt.Sprintf("%s: status %d", a.Address, a.Status), "relying parties need 200", do)
	}
	if d.Body == nil && !tooLong(d) {
		return skip("redirected")
	}
	return pass("200")
}

func tooLong(d *Document) bool {
	return slices.ContainsFunc(d.Answers, func(a Answer) bool { return a.TooLong })
}

func contentType(what string) func(*Observation, *Answer) Result {
	want := []string{"application/json"}
	if what == "jwks" {
		want = append(want, "application/jwk-set+json")
	}
	return func(_ *Observation, a *Answer) Result {
		got := a.header("Content-Type")
		seen := fmt.Sprintf("Content-Type %.100q", got)
		media, params, err := mime.ParseMediaType(got)
		switch charset := params["charset"]; {
		case err != nil || !slices.Contains(want, media):
			r := fail(seen, "relying parties that check it want "+strings.Join(want, " or "),
				"set it, also in the bucket or web server")
			if what == "jwks" && media != "text/html" { // RFC 7517, section 8.5.2, registers it and requires nothing
				r.Status = Warn
			}
			return r
		case charset != "" && !strings.EqualFold(charset, "utf-8"):
			return fail(seen, "JSON is UTF-8 (RFC 8259, section 8.1)", "remove charset")
		}
		return pass("%s", got)
	}
}

// encoding finds an encoding that the transport has not decoded: gzip that it
// did not ask for, and anything else.
func encoding(_ *Observation, a *Answer) Result {
	if got := a.header("Content-Encoding"); got != "" && !strings.EqualFold(got, "identity") {
		return fail(fmt.Sprintf("Content-Encoding %.40q, which was not requested", got),
			"clients without compression, Envoy and curl among them, cannot read the JSON",
			"compress only for clients that send Accept-Encoding, or not at all")
	}
	return pass("not compressed")
}

func http10(_ *Observation, d *Document) Result {
	if d.HTTP10 == nil {
		return skip("not asked, because requests go through a proxy")
	}
	a := d.HTTP10
	bad := func(format string, args ...any) Result {
		return warn(a.Address+": "+fmt.Sprintf(format, args...),
			"old proxies and health checks use HTTP/1.0, and so do nginx and HAProxy upstreams by default",
			"answer HTTP/1.0 with a plain body and Content-Length")
	}
	switch {
	case a.Err != nil:
		return bad("%.200s", reason(a.Err))
	case a.Status != 200:
		return bad("status %d", a.Status)
	case len(a.Transfer) > 0:
		return bad("Transfer-Encoding %.40q, which HTTP/1.0 does not have", a.Transfer)
	case a.header("Content-Encoding") != "":
		return bad("Content-Encoding %.40q", a.header("Content-Encoding"))
	case !alike(a.Body, d.Body):
		return bad("%d bytes, which differ from the answer to HTTP/1.1", len(a.Body))
	}
	return pass("the same")
}

const fewerKeys = "publish fewer keys, without certificates"

func size(_ *Observation, d *Document) Result {
	if tooLong(d) {
		return fail(fmt.Sprintf("more than %d bytes", maxDocument), "no relying party reads that much", fewerKeys)
	}
	if d.Body == nil {
		return skip("no document")
	}
	if len(d.Body) > 32<<10 {
		return warn(fmt.Sprintf("%d bytes", len(d.Body)), "nginx stops at 32768, older Nimbus (Spring) at 51200", fewerKeys)
	}
	return pass("%d bytes", len(d.Body))
}

const serveFast = "serve it from memory, close to the relying parties"

// latency judges the median of connection, handshake and answer together.
func latency(_ *Observation, d *Document) Result {
	var all []time.Duration
	for i := range d.Answers {
		if a := &d.Answers[i]; a.Err == nil {
			all = append(all, a.Latency)
		}
	}
	slices.Sort(all)
	const digits = 100 * time.Microsecond
	median, slowest := all[len(all)/2].Round(digits), all[len(all)-1].Round(digits)
	seen := fmt.Sprintf("median %v, slowest %v, including the connection", median, slowest)
	if all[len(all)/2] > 500*time.Millisecond {
		return warn(seen, "older Nimbus (Spring) stops waiting after 500ms, and every first verification is slow", serveFast)
	}
	return pass("%s", seen)
}
