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

// Documents are what an issuer shows to the world: the provider metadata, the
// key set and a page for people. It is a [rotation.Publisher].
type Documents struct {
	current atomic.Pointer[rendered] // nil until something is published

	mu    sync.Mutex // held by whoever renders
	cfg   DocumentsConfig
	keys  []jwks.PublicKey // those in current
	limit time.Duration
}

// rendered is the documents of one moment.
type rendered [kinds]*document

// A kind is which document of an issuer.
type kind int

const (
	configuration kind = iota
	keySet
	page
	kinds
)

// names are what the metrics call them.
var names = [kinds]string{configuration: "configuration", keySet: "jwks", page: "page"}

// Defaults of [DocumentsConfig].
const (
	DefaultJWKSMaxAge      = 5 * time.Minute
	DefaultDiscoveryMaxAge = time.Hour
)

// DocumentsConfig says whose documents these are, and how long they may be
// cached.
type DocumentsConfig struct {
	// Issuer must be set.
	Issuer discovery.Issuer

	// JWKSMaxAge and DiscoveryMaxAge become max-age, in whole seconds, of the
	// key set and of the metadata. Defaults 5m and 1h. A longer one lets
	// fewer requests through and new keys become known later; never is it
	// longer than [rotation.Policy.MaxAgeLimit].
	JWKSMaxAge, DiscoveryMaxAge time.Duration
}

// NewDocuments has nothing to show until something is published.
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

// Publish renders the documents of v and shows them from now on, all at once.
func (d *Documents) Publish(_ context.Context, v *rotation.View) error {
	return d.show(v.KeySet(), v.Ring().Policy.MaxAgeLimit())
}

// Show is Publish for keys that are not planned here: nobody knows how long
// they are published before they sign.
func (d *Documents) Show(keys []jwks.PublicKey) error { return d.show(keys, math.MaxInt64) }

func (d *Documents) show(keys []jwks.PublicKey, limit time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.render(keys, limit)
}

// SetMaxAge changes how long the documents may be cached, from now on: see
// [DocumentsConfig].
func (d *Documents) SetMaxAge(jwks, discovery time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cfg.JWKSMaxAge, d.cfg.DiscoveryMaxAge = jwks, discovery
	if d.keys == nil {
		return nil
	}
	return d.render(d.keys, d.limit)
}

// KeyIDs are the kids in the key set that is shown.
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
	algorithms := make([]string, len(keys))
	for i, k := range keys {
		algorithms[i] = string(k.Algorithm())
	}
	metadata, err := discovery.New(d.cfg.Issuer, algorithms).Marshal()
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
		configuration: newDocument("application/json", min(d.cfg.DiscoveryMaxAge, limit), metadata),
		keySet:        newDocument(jwks.ContentType, min(d.cfg.JWKSMaxAge, limit), set),
		page:          newDocument("text/html; charset=utf-8", time.Minute, html),
	})
	d.keys, d.limit = keys, limit
	return nil
}

// Issuer is whose documents these are.
func (d *Documents) Issuer() discovery.Issuer { return d.cfg.Issuer }

// Published reports whether there is something to show.
func (d *Documents) Published() bool { return d.current.Load() != nil }

// Files are the two documents as files for a web server or a bucket, by their
// path below the root of the issuer's host. It is nil until something is
// published.
func (d *Documents) Files() map[string][]byte {
	current := d.current.Load()
	if current == nil {
		return nil
	}
	return map[string][]byte{
		d.cfg.Issuer.ConfigurationPaths()[0]: current[configuration].body,
		d.cfg.Issuer.JWKSPaths()[0]:          current[keySet].body,
	}
}

// A document is a response that is ready to be sent. The header values are
// slices so that they go into the header map as they are.
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
