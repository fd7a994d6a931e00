// Package web serves the public documents of issuers, and their health and
// metrics, over HTTP. Documents are rendered when the keys change; a request
// costs a map look-up and a write.
package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// Documents holds what an issuer publishes: the discovery document, the key set
// and a page for people. It implements [rotation.Publisher].
type Documents struct {
	current atomic.Pointer[rendered] // nil until something is published

	mu    sync.Mutex // held while rendering
	cfg   DocumentsConfig
	keys  []jwks.PublicKey // those in current
	limit time.Duration
}

// rendered has all documents of one key set.
type rendered [kinds]*document

// A kind is one of the documents of an issuer.
type kind int

const (
	discoveryDocument kind = iota
	keySet
	page
	kinds
)

// names has the values of the label document.
var names = [kinds]string{discoveryDocument: "discovery", keySet: "jwks", page: "page"}

// Defaults of [DocumentsConfig].
const (
	DefaultJWKSMaxAge      = 5 * time.Minute
	DefaultDiscoveryMaxAge = time.Hour
)

// DocumentsConfig names the issuer, and says how long its documents may be cached.
type DocumentsConfig struct {
	// Issuer is required.
	Issuer discovery.Issuer

	// JWKSMaxAge and DiscoveryMaxAge are max-age, in whole seconds, of the key
	// set and of the discovery document. Defaults 5m and 1h. With a longer one
	// there are fewer requests, and relying parties learn about new keys later.
	// The limit is [rotation.Policy.MaxAgeLimit].
	JWKSMaxAge, DiscoveryMaxAge time.Duration
}

// NewDocuments returns documents that are empty until the first Publish or Show.
func NewDocuments(cfg DocumentsConfig) *Documents {
	if cfg.JWKSMaxAge == 0 {
		cfg.JWKSMaxAge = DefaultJWKSMaxAge
	}
	if cfg.DiscoveryMaxAge == 0 {
		cfg.DiscoveryMaxAge = DefaultDiscoveryMaxAge
	}
	return &Documents{cfg: cfg}
}

// Slot returns a slot that always serves d.
func (d *Documents) Slot() *Slot { return NewSlot(d.cfg.Issuer, func() *Documents { return d }) }

// Publish renders the documents of v, and then replaces all of them at once.
func (d *Documents) Publish(_ context.Context, v *rotation.View) error {
	return d.show(v.KeySet(), v.Ring().Policy.MaxAgeLimit())
}

// Show does what Publish does for keys that another program rotates. They do not
// limit max-age: how long they are published before they sign is unknown.
func (d *Documents) Show(keys []jwks.PublicKey) error { return d.show(keys, math.MaxInt64) }

func (d *Documents) show(keys []jwks.PublicKey, limit time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.render(keys, limit)
}

// SetMaxAge changes how long the documents may be cached: see [DocumentsConfig].
func (d *Documents) SetMaxAge(jwks, discovery time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cfg.JWKSMaxAge, d.cfg.DiscoveryMaxAge = jwks, discovery
	if d.keys == nil {
		return nil
	}
	return d.render(d.keys, d.limit)
}

// KeyIDs returns the kids in the published key set.
func (d *Documents) KeyIDs() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	kids := make([]string, len(d.keys))
	for i, k := range d.keys {
		kids[i] = k.KeyID()
	}
	return kids
}

func (d *Documents) render(keys []jwks.PublicKey, limit time.Duration) error {
	metadata, err := discovery.New(d.cfg.Issuer, jwks.AlgorithmNames()).Marshal()
	if err != nil {
		return err
	}
	set, err := jwks.Marshal(keys)
	if err != nil {
		return err
	}
	html, err := renderPage(d.cfg.Issuer, keys)
	if err != nil {
		return err
	}
	d.current.Store(&rendered{
		discoveryDocument: newDocument("application/json", min(d.cfg.DiscoveryMaxAge, limit), metadata),
		keySet:            newDocument(jwks.ContentType, min(d.cfg.JWKSMaxAge, limit), set),
		page:              newDocument("text/html; charset=utf-8", time.Minute, html),
	})
	d.keys, d.limit = keys, limit
	return nil
}

// Issuer returns the issuer that publishes d.
func (d *Documents) Issuer() discovery.Issuer { return d.cfg.Issuer }

// Published reports whether Publish or Show has succeeded.
func (d *Documents) Published() bool { return d.current.Load() != nil }

// Files returns the discovery document and the key set as files for a web server
// or a bucket, by their path below the root of the issuer's host. It returns nil
// before the first Publish or Show.
func (d *Documents) Files() map[string][]byte {
	current := d.current.Load()
	if current == nil {
		return nil
	}
	return map[string][]byte{
		d.cfg.Issuer.DiscoveryPaths()[0]: current[discoveryDocument].body,
		d.cfg.Issuer.JWKSPaths()[0]:      current[keySet].body,
	}
}

// A document is a response that is ready to be sent. The header values are slices,
// the form that the header map needs.
type document struct {
	body          []byte
	etag          string
	contentType   []string
	contentLength []string
	cacheControl  []string
	etagHeader    []string
}

func newDocument(contentType string, maxAge time.Duration, body []byte) *document {
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	return &document{
		body: body, etag: etag,
		contentType:   []string{contentType},
		contentLength: []string{fmt.Sprint(len(body))},
		cacheControl:  []string{fmt.Sprintf("public, max-age=%d", int(maxAge/time.Second))},
		etagHeader:    []string{etag},
	}
}
