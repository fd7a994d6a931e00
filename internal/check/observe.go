package check

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"oidc-provider/discovery"
)

// An Observation is what was seen of an issuer. It does not change after it was
// made.
type Observation struct {
	Options Options
	Time    time.Time

	// Issuer is the zero value, and IssuerErr says why, if it is not a URL that
	// can be asked.
	Issuer    discovery.Issuer
	IssuerErr error

	// Discovery and KeySet are the two documents. One that could not be
	// requested has no URL.
	Discovery, KeySet Document

	// Metadata and JWKs are the contents of the two documents.
	Metadata Metadata
	JWKs     []JWK

	// metadataErr and keySetErr say what is wrong with the JSON of each.
	metadataErr, keySetErr error

	token *token
}

func (o *Observation) discovery() *Document { return &o.Discovery }
func (o *Observation) keySet() *Document    { return &o.KeySet }

// unreachable reports whether requests were sent and no server answered.
func (o *Observation) unreachable() bool { return o.Discovery.asked() && !o.Discovery.connected() }

// A Document is what was found at one URL.
type Document struct {
	URL string

	// Addresses of the host, "ip:port" each. ResolveErr says why there are
	// none, Chosen that they come from the options.
	Addresses  []string
	ResolveErr error
	Chosen     bool

	// Answers to the tries, over all addresses in turn. HTTP10 is the answer
	// to an HTTP/1.0 client, nil if there was no such request.
	Answers []Answer
	HTTP10  *Answer

	// Body is the first good answer.
	Body []byte
}

// An Answer is one response, or Err.
type Answer struct {
	Address string
	Err     error
	// NoRoute says that this machine has no route to the address.
	NoRoute bool

	Proto    string
	Status   int
	Header   map[string][]string
	Body     []byte
	TooLong  bool // Body is only the first part
	Latency  time.Duration
	Transfer []string // Transfer-Encoding

	// Chain is the certificates that the server sent, the leaf first. TLS is
	// the version.
	Chain []*x509.Certificate
	TLS   uint16
}

func (a *Answer) good() bool { return a.Err == nil && a.Status == 200 && !a.TooLong }

func (a *Answer) header(name string) string {
	return strings.Join(a.Header[name], ", ")
}

// asked reports whether the document was requested.
func (d *Document) asked() bool { return d.URL != "" }

// connected reports whether any server answered.
func (d *Document) connected() bool {
	return slices.ContainsFunc(d.Answers, func(a Answer) bool { return a.answered() })
}

// unreachable describes why no server answered.
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

// reason returns the innermost error, which says what happened.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return name(err.Error())
		}
		err = inner
	}
}

// first returns the first good answer, or else the first that came, nil if none
// did.
func (d *Document) first() (first *Answer) {
	for i := range d.Answers {
		switch a := &d.Answers[i]; {
		case a.good():
			return a
		case a.Err == nil && first == nil:
			first = a
		}
	}
	return first
}

// Metadata is the contents of the discovery document, as relying parties read it.
type Metadata struct {
	Issuer        string
	JWKSURI       string
	Algorithms    []string
	ResponseTypes []string
	SubjectTypes  []string
}

// observe asks for everything. The token is examined afterwards: the code that
// asks does not have it.
func observe(ctx context.Context, options Options) *Observation {
	raw := options.Token
	options.Token = ""
	o := &Observation{Options: options, Time: time.Now().UTC()}
	o.observeDocuments(ctx)
	if raw != "" {
		o.observeToken(raw)
	}
	return o
}

func (o *Observation) observeDocuments(ctx context.Context) {
	o.Issuer, o.IssuerErr = discovery.ParseIssuer(o.Options.Issuer)
	if o.IssuerErr != nil {
		return
	}
	issuer := o.Issuer.URL()
	c := &client{o.Options, issuer.Hostname()}
	o.Discovery = c.document(ctx, o.Issuer.DiscoveryURL())
	if o.Discovery.Body == nil {
		return
	}
	o.Metadata, o.metadataErr = parseMetadata(o.Discovery.Body)
	if checkJWKSURI(o.Issuer, o.Metadata.JWKSURI) != nil {
		return
	}
	o.KeySet = c.document(ctx, o.Metadata.JWKSURI)
	if o.KeySet.Body != nil {
		o.JWKs, o.keySetErr = parseKeySet(o.KeySet.Body)
	}
}

// parseMetadata reads the discovery document as leniently as the most lenient
// relying party: a member of the wrong type counts as missing.
func parseMetadata(data []byte) (Metadata, error) {
	members, err := parseObject(data)
	if err != nil {
		return Metadata{}, err
	}
	var m Metadata
	_ = json.Unmarshal(members["issuer"], &m.Issuer)
	_ = json.Unmarshal(members["jwks_uri"], &m.JWKSURI)
	for name, to := range map[string]*[]string{
		"id_token_signing_alg_values_supported": &m.Algorithms,
		"response_types_supported":              &m.ResponseTypes,
		"subject_types_supported":               &m.SubjectTypes,
	} {
		if json.Unmarshal(members[name], to) != nil {
			*to = nil
		}
	}
	return m, duplicate(data)
}

// checkJWKSURI reports why a jwks_uri must not be asked.
func checkJWKSURI(issuer discovery.Issuer, raw string) error {
	u, err := url.Parse(raw)
	of := issuer.URL()
	switch {
	case raw == "":
		return errNoJWKSURI
	case err != nil || u.Hostname() == "" || u.Opaque != "" || u.User != nil || strings.ContainsRune(raw, '#'):
		return errNoURL
	case u.Scheme != "https" && u.Scheme != "http":
		return errNoURL
	case u.Scheme == "http" && (of.Scheme != "http" || u.Hostname() != of.Hostname()):
		return errNotHTTPS
	}
	return nil
}

// document asks for one document in every way.
func (c *client) document(ctx context.Context, raw string) Document {
	d := Document{URL: raw}
	u, err := url.Parse(raw)
	if err != nil {
		d.ResolveErr = err
		return d
	}
	c.resolve(ctx, u, &d)
	if named := !d.Chosen && u.Hostname() != c.host; named && !c.AllowPrivate {
		if n := slices.IndexFunc(d.Addresses, isPrivate); n >= 0 {
			d.ResolveErr = fmt.Errorf("%s %w", d.Addresses[n], errPrivate)
			d.Addresses = nil
		}
	}
	d.Answers = c.tries(ctx, u, d.Addresses)
	if differ(d.Answers) {
		// A rotation, or another change, may have happened in between. A
		// lasting difference shows again.
		select {
		case <-ctx.Done():
		case <-time.After(settle):
		}
		d.Answers = c.tries(ctx, u, d.Addresses)
	}
	for i := range d.Answers {
		if a := &d.Answers[i]; a.good() {
			d.Body = a.Body
			if a.Address != viaProxy {
				old := c.http10(ctx, u, a.Address)
				d.HTTP10 = &old
			}
			break
		}
	}
	return d
}

const settle = time.Second

// tries asks every address once, all at the same time, and then the ones that
// answered, one after the other, up to the number of tries. It asks each
// address in a different way each time.
func (c *client) tries(ctx context.Context, u *url.URL, addresses []string) []Answer {
	answers := make([]Answer, len(addresses))
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() { answers[i] = c.get(ctx, u, address, i) })
	}
	wg.Wait()
	var alive []string
	for _, a := range answers {
		if a.Err == nil {
			alive = append(alive, a.Address)
		}
	}
	for i := len(answers); i < c.Tries && len(alive) > 0; i++ {
		n := i % len(alive)
		a := c.get(ctx, u, alive[n], n+i/len(alive))
		answers = append(answers, a)
		if a.Err != nil {
			alive = append(alive[:n:n], alive[n+1:]...)
		}
	}
	return answers
}

// differ reports whether the good answers differ.
func differ(answers []Answer) bool {
	var first []byte
	for i := range answers {
		switch a := &answers[i]; {
		case !a.good():
		case first == nil:
			first = a.Body
		case !alike(first, a.Body):
			return true
		}
	}
	return false
}

// resolve finds the addresses to ask.
func (c *client) resolve(ctx context.Context, u *url.URL, d *Document) {
	target := hostPort(u)
	host, port, _ := net.SplitHostPort(target)
	if to, ok := c.ConnectTo[target]; ok {
		d.Addresses, d.Chosen = to, true
		return
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		d.Addresses = []string{net.JoinHostPort(ip.String(), port)}
		return
	}
	if c.proxied(u) {
		d.Addresses = []string{viaProxy}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		d.ResolveErr = err
		return
	}
	for _, ip := range ips[:min(len(ips), maxAddresses)] {
		d.Addresses = append(d.Addresses, net.JoinHostPort(ip.Unmap().String(), port))
	}
}

// hostPort returns the host and port of a URL, with the default port of its
// scheme if it has none.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
