package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// witnessFlags name places that may have shown keys which a ring from an old
// backup does not know.
type witnessFlags struct {
	witnesses []string
	caFile    string
}

func (p *witnessFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&p.witnesses, "witness", nil, `URL of a key set that the ring must know all keys of, to tell an old backup by; may be given several times; default the issuer's own if it is https; "none" asks nobody`)
	flags.StringVar(&p.caFile, "witness-ca-file", "", "PEM file with the CA of the witnesses; default the system's")
}

// witnessTimeout bounds what a start waits for witnesses.
const witnessTimeout = 3 * time.Second

// ask returns what each witness shows. One that cannot be asked is passed to
// failed, and is no error: it may be what is being started here.
func (p *witnessFlags) ask(ctx context.Context, issuer string, failed func(witness string, err error)) ([]rotation.Seen, error) {
	witnesses, err := p.urls(issuer)
	if err != nil || len(witnesses) == 0 {
		return nil, err
	}
	client, err := p.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	type answer struct {
		seen rotation.Seen
		err  error
	}
	answers := make([]answer, len(witnesses))
	var wg sync.WaitGroup
	for i, witness := range witnesses {
		wg.Go(func() { answers[i].seen, answers[i].err = shownAt(ctx, client, witness) })
	}
	wg.Wait()
	var all []rotation.Seen
	for i, a := range answers {
		if a.err != nil {
			failed(witnesses[i], a.err)
			continue
		}
		all = append(all, a.seen)
	}
	return all, nil
}

func (p *witnessFlags) urls(issuer string) ([]string, error) {
	if len(p.witnesses) == 1 && p.witnesses[0] == "none" {
		return nil, nil
	}
	for _, witness := range p.witnesses {
		if u, err := url.Parse(witness); err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("--witness: want the URL of a key set, like https://10.0.0.2:8443%s and with no password, or none", discovery.JWKSPath)
		}
	}
	if len(p.witnesses) > 0 {
		return p.witnesses, nil
	}
	parsed, err := discovery.ParseIssuer(issuer)
	if err != nil || parsed.URL().Scheme != "https" {
		return nil, err
	}
	return []string{parsed.JWKSURI()}, nil
}

func (p *witnessFlags) client() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if p.caFile != "" {
		pem, err := os.ReadFile(p.caFile)
		if err != nil {
			return nil, fmt.Errorf("--witness-ca-file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--witness-ca-file %s: no certificate in PEM", p.caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("it redirects")
	}}, nil
}

// maxKeySet is far above what any relying party reads.
const maxKeySet = 1 << 20

func shownAt(ctx context.Context, client *http.Client, witness string) (rotation.Seen, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, witness, nil)
	if err != nil {
		return rotation.Seen{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return rotation.Seen{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return rotation.Seen{}, fmt.Errorf("it answers %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet))
	if err != nil {
		return rotation.Seen{}, err
	}
	keys, err := jwks.Parse(data)
	if err != nil {
		return rotation.Seen{}, err
	}
	seen := rotation.Seen{By: witness}
	for _, key := range keys {
		seen.KeyIDs = append(seen.KeyIDs, key.KeyID())
	}
	return seen, nil
}

// checkAgainst reports whether ring can have come after all that was seen, and warns
// if the world has not seen the key that signs.
func checkAgainst(ring *rotation.Ring, seen []rotation.Seen, warn func(string)) error {
	active := ring.Active(ring.At(time.Now()))
	for _, s := range seen {
		if err := ring.CheckAgainst(s); err != nil {
			return err
		}
		if s.Generation == 0 && !slices.Contains(s.KeyIDs, active.KeyID) {
			warn(fmt.Sprintf("%s does not show key %s, which signs: relying parties that fetched the key set there reject its tokens until they fetch it again", s.By, active.KeyID))
		}
	}
	return nil
}
