// Package witness asks servers that publish an issuer's key set which keys they
// have seen. A ring that does not know one of them was restored from a backup that
// is older than what relying parties know.
package witness

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

const (
	// timeout bounds how long a start waits for all witnesses.
	timeout = 3 * time.Second
	// maxKeySet, in bytes, is far above what any relying party reads.
	maxKeySet = 1 << 20
)

// Config says which servers to ask.
type Config struct {
	// URLs of key sets. Default the issuer's own key set, if it is https. The
	// single URL "none" asks no server.
	URLs []string

	// CAFile is a PEM file with the CA of the witnesses. Default the system's.
	CAFile string
}

// Ask returns the keys that each witness publishes for issuer. A witness that
// does not answer within three seconds is passed to failed and is not an error:
// it may be the server that is being started.
func (c Config) Ask(ctx context.Context, issuer string, failed func(url string, err error)) ([]rotation.Seen, error) {
	answers, err := c.AskDated(ctx, issuer, failed)
	var all []rotation.Seen
	for _, a := range answers {
		all = append(all, a.Seen)
	}
	return all, err
}

// An Answer is what a witness has seen, and the time that it showed.
type Answer struct {
	rotation.Seen
	Date httpclient.Date
}

// Asks reports whether there is a server to ask about issuer.
func (c Config) Asks(issuer string) bool {
	urls, err := c.urls(issuer)
	return err == nil && len(urls) > 0
}

// Named reports whether an operator has named the witnesses. The issuer's own key
// set may come from this machine.
func (c Config) Named() bool { return len(c.URLs) > 0 }

// AskDated is Ask with the times that the witnesses showed.
func (c Config) AskDated(ctx context.Context, issuer string, failed func(url string, err error)) ([]Answer, error) {
	urls, err := c.urls(issuer)
	if err != nil || len(urls) == 0 {
		return nil, err
	}
	roots, err := httpclient.CAPool(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("CA of the witnesses: %w", err)
	}
	client := httpclient.New(httpclient.Transport(roots))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answers, errs := make([]Answer, len(urls)), make([]error, len(urls))
	var wg sync.WaitGroup
	for i, u := range urls {
		wg.Go(func() { answers[i], errs[i] = ask(ctx, client, u) })
	}
	wg.Wait()
	var all []Answer
	for i, a := range answers {
		if errs[i] != nil {
			failed(urls[i].String(), errs[i])
			continue
		}
		all = append(all, a)
	}
	return all, nil
}

func (c Config) urls(issuer string) (urls []*url.URL, err error) {
	if len(c.URLs) == 1 && c.URLs[0] == "none" {
		return nil, nil
	}
	for _, text := range c.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			return nil, hint.Errorf("set {witnesses} to URLs of key sets without a password, like https://10.0.0.2:8443"+
				discovery.JWKSPath+", or to none", "a witness is not the URL of a key set")
		}
		urls = append(urls, u)
	}
	if len(urls) > 0 {
		return urls, nil
	}
	parsed, err := discovery.ParseIssuer(issuer)
	if err != nil || parsed.URL().Scheme != "https" {
		return nil, err
	}
	own, err := url.Parse(parsed.JWKSURI())
	return []*url.URL{own}, err
}

func ask(ctx context.Context, client *http.Client, u *url.URL) (Answer, error) {
	data, date, err := httpclient.GetDated(ctx, client, u, maxKeySet)
	if err != nil {
		return Answer{}, err
	}
	// A key that this program would not publish cannot be in the ring: it is unknown.
	keys, _, err := jwks.Filter(data)
	if err != nil {
		return Answer{}, err
	}
	seen := rotation.Seen{By: u.String()}
	for _, key := range keys {
		seen.KeyIDs = append(seen.KeyIDs, key.KeyID())
	}
	return Answer{seen, date}, nil
}

// Check returns an error if ring is older than what was seen of it. It passes a
// warning to warn for each witness that does not publish the active key.
func Check(ring *rotation.Ring, seen []rotation.Seen, now time.Time, warn func(string)) error {
	active := ring.Active(ring.At(now))
	for _, s := range seen {
		if err := ring.CheckAgainst(s); err != nil {
			return err
		}
		if s.Generation == 0 && !slices.Contains(s.KeyIDs, active.KeyID) {
			warn(fmt.Sprintf("%s does not publish the active key %s: relying parties that fetched the key set there reject "+
				"its tokens "+
				"until they fetch it again", s.By, active.KeyID))
		}
	}
	return nil
}
