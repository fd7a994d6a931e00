package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"
	"time"
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
	each := func(name, asks string, look func(*Observation, *Answer) Result) Check {
		return good(name, asks, func(o *Observation, d *Document) Result { return d.worst(o, look) })
	}
	checks := []Check{
		check("certificate", "Is the certificate valid for the host, and its chain whole?", certificate),
		check("tls", "Is TLS 1.2 or later spoken?", tlsVersion),
		check("answer", "Does every address answer, every time, and in time?", answers),
		check("expiry", "Is the certificate valid for some time yet?", expiry),
		answered("redirect", "Is it where it should be, without a redirect?", redirect),
		answered("status", "Is the status 200?", status),
		each("content-type", "Is the Content-Type JSON?", contentType(what)),
		each("encoding", "Does a client that asked for no compression get none?", encoding),
		good("same", "Is the answer the same from every address, and every time?", same),
		good("http10", "Do clients of HTTP/1.0 get it?", http10),
		each("cache", "Is it cached for no longer than a key is published ahead, and for long enough?", cache),
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

// good is how many answers are.
func (d *Document) good() (n int) {
	for i := range d.Answers {
		if d.Answers[i].good() {
			n++
		}
	}
	return n
}

// worst is what is worst about the good answers.
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
		return fail(fmt.Sprintf("%d answers in %v; %s", came, o.Options.Timeout, list(failed)),
			"who comes there has no keys: AWS STS waits 5s, others less, and many try one address alone", "mend the server, or take the address out of DNS")
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
	if d.Body == nil && !tooLong(d) {
		return skip("redirected")
	}
	return pass("200")
}

func tooLong(d *Document) bool {
	return slices.ContainsFunc(d.Answers, func(a Answer) bool { return a.TooLong })
}

func contentType(what string) func(*Observation, *Answer) Result {
	return func(_ *Observation, a *Answer) Result {
		got := a.header("Content-Type")
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

// encoding finds what the transport has not unpacked: gzip that it has not
// asked for, and anything else.
func encoding(_ *Observation, a *Answer) Result {
	if got := a.header("Content-Encoding"); got != "" && !strings.EqualFold(got, "identity") {
		return fail(fmt.Sprintf("Content-Encoding %.40q, which was not asked for", got),
			"clients without compression, Envoy and curl among them, see no JSON", "compress for those alone that send Accept-Encoding, or not at all")
	}
	return pass("plain bytes")
}

func same(o *Observation, d *Document) Result {
	first := d.first()
	for i := range d.Answers {
		a := &d.Answers[i]
		if !a.good() || alike(a.Body, d.Body) {
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
	return pass("%d times the same", d.good())
}

// alike reports whether two documents say the same: the members of an object,
// and the keys of a set, may come in any order.
func alike(a, b []byte) bool {
	return bytes.Equal(a, b) || bytes.Equal(canonical(a), canonical(b))
}

func canonical(data []byte) []byte {
	var document map[string]any
	if json.Unmarshal(data, &document) != nil {
		return data
	}
	if keys, ok := document["keys"].([]any); ok {
		texts := make([]string, len(keys))
		for i, k := range keys {
			text, _ := json.Marshal(k) // it has been read from JSON
			texts[i] = string(text)
		}
		document["keys"] = sorted(texts)
	}
	text, _ := json.Marshal(document)
	return text
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
	case !alike(a.Body, d.Body):
		return warn(fmt.Sprintf("%s: %d other bytes than for HTTP/1.1", a.Address, len(a.Body)), why, do)
	}
	return pass("the same")
}

func size(_ *Observation, d *Document) Result {
	const do = "publish fewer keys, without certificates"
	if tooLong(d) {
		return fail(fmt.Sprintf("more than %d bytes", maxDocument), "no relying party reads that", do)
	}
	if d.Body == nil {
		return skip("no document to look at")
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
