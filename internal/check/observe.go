package check

import (
	"context"
	"crypto/x509"
	"encoding/json"
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

// An Observation is what was seen of an issuer. It is not changed once it is
// there.
type Observation struct {
	Options Options
	Time    time.Time

	// Issuer is the zero value, and IssuerErr says why, if it is no URL to
	// ask.
	Issuer    discovery.Issuer
	IssuerErr error

	// Configuration and KeySet are the two documents. One that there was no
	// way to ask for has no URL.
	Configuration, KeySet Document

	// Metadata is what the configuration says, JWKs what the key set holds.
	Metadata Metadata
	JWKs     []JWK

	// What is wrong with the JSON of each.
	metadataErr, keySetErr error

	token *token
}

func (o *Observation) configuration() *Document { return &o.Configuration }
func (o *Observation) keySet() *Document        { return &o.KeySet }

// A Document is what there is at one URL.
type Document struct {
	URL string

	// Addresses are those of the host, "ip:port" each, ResolveErr is why
	// there are none. Chosen says that they come from the options.
	Addresses  []string
	ResolveErr error
	Chosen     bool

	// Answers are those to the tries, over all addresses in turn. HTTP10 is
	// that to a client of HTTP/1.0, nil if none was asked for.
	Answers []Answer
	HTTP10  *Answer

	// Body is the first good answer.
	Body []byte
}

// An Answer is one response, or Err.
type Answer struct {
	Address string
	Err     error
	// NoRoute says that this machine has no way to the address at all.
	NoRoute bool

	Proto    string
	Status   int
	Header   map[string][]string
	Body     []byte
	TooLong  bool // Body is only the first part
	Latency  time.Duration
	Transfer []string // Transfer-Encoding

	// Chain is what the server sent, the leaf first. TLS is the version.
	Chain []*x509.Certificate
	TLS   uint16
}

func (a *Answer) good() bool { return a.Err == nil && a.Status == 200 && !a.TooLong }

func (a *Answer) header(name string) string {
	return strings.Join(a.Header[name], ", ")
}

// asked reports whether there was something to ask for.
func (d *Document) asked() bool { return d.URL != "" }

// connected reports whether anybody answered at all.
func (d *Document) connected() bool {
	return slices.ContainsFunc(d.Answers, func(a Answer) bool { return a.answered() })
}

// first is the first good answer, or else the first that came, nil if none did.
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

// Metadata is what discovery says, as relying parties read it.
type Metadata struct {
	Issuer        string
	JWKSURI       string
	Algorithms    []string
	ResponseTypes []string
	SubjectTypes  []string
}

// observe asks for everything. Who asks has no token: it is looked at when all
// has been asked.
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
	o.Configuration = c.document(ctx, o.Issuer.ConfigurationURL())
	if o.Configuration.Body == nil {
		return
	}
	o.Metadata, o.metadataErr = parseMetadata(o.Configuration.Body)
	if checkJWKSURI(o.Issuer, o.Metadata.JWKSURI) != nil {
		return
	}
	o.KeySet = c.document(ctx, o.Metadata.JWKSURI)
	if o.KeySet.Body != nil {
		o.JWKs, o.keySetErr = parseKeySet(o.KeySet.Body)
	}
}

// parseMetadata reads discovery as leniently as the most lenient relying
// party: a member of the wrong type is as good as none.
func parseMetadata(data []byte) (Metadata, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return Metadata{}, describe(data, err)
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

// checkJWKSURI reports why a jwks_uri is not to be asked.
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

// document asks for one document in all ways.
func (c *client) document(ctx context.Context, raw string) Document {
	d := Document{URL: raw}
	u, err := url.Parse(raw)
	if err != nil {
		d.ResolveErr = err
		return d
	}
	c.resolve(ctx, u, &d)
	if stray := slices.IndexFunc(d.Addresses, isLocal); stray >= 0 && !d.Chosen && u.Hostname() != c.host {
		d.ResolveErr = fmt.Errorf("%s is this machine's own, or next to it, and was not asked", d.Addresses[stray])
		d.Addresses = nil
	}
	d.Answers = c.tries(ctx, u, d.Addresses)
	if differ(d.Answers) {
		// A rotation, or another change, may have come in between. What is
		// wrong for longer is wrong again.
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

// tries asks every address once, all at the same time, and then those that
// answered in turn, one after the other, up to the number of tries. Each
// address is asked in another way each time.
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

// differ reports whether good answers say different things.
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

// isLocal reports whether an address leads to the machine that asks, or to its
// neighbours, as the metadata service of a cloud is one. An issuer on such an
// address is what somebody has typed; where it leads from there is not.
func isLocal(address string) bool {
	to, err := netip.ParseAddrPort(address)
	ip := to.Addr().Unmap()
	return err == nil && (ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast())
}

// hostPort is where a URL leads, with the port that its scheme stands for.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
