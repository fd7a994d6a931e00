// Package web serves the public documents of an issuer, and its health and
// metrics, over HTTP. Documents are rendered when the keys change; a request
// costs a map look-up and a write.
package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"sync/atomic"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// Documents are what an issuer shows to the world: the provider metadata, the
// key set and a page for people. It is a [rotation.Publisher].
type Documents struct {
	cfg     DocumentsConfig
	current atomic.Pointer[map[string]*document] // by request path
}

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
		cfg.JWKSMaxAge = 5 * time.Minute
	}
	if cfg.DiscoveryMaxAge == 0 {
		cfg.DiscoveryMaxAge = time.Hour
	}
	d := &Documents{cfg: cfg}
	d.current.Store(new(map[string]*document))
	return d
}

// Publish renders the documents of v and shows them from now on, all at once.
func (d *Documents) Publish(_ context.Context, v *rotation.View) error {
	keys := v.KeySet()
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
	page, err := renderPage(d.cfg.Issuer, keys)
	if err != nil {
		return err
	}
	limit := v.Ring().Policy.MaxAgeLimit()
	documents := make(map[string]*document)
	place := func(doc *document, paths []string) {
		for _, path := range paths {
			documents[path] = doc
		}
	}
	place(newDocument(pageDocument, "text/html; charset=utf-8", time.Minute, page), pagePaths(d.cfg.Issuer))
	place(newDocument(configurationDocument, "application/json", min(d.cfg.DiscoveryMaxAge, limit), metadata), d.cfg.Issuer.ConfigurationPaths())
	place(newDocument(jwksDocument, jwks.ContentType, min(d.cfg.JWKSMaxAge, limit), set), d.cfg.Issuer.JWKSPaths())
	d.current.Store(&documents)
	return nil
}

// find returns the document at this path, or nil.
func (d *Documents) find(path string) *document { return (*d.current.Load())[path] }

// empty reports whether nothing has been published yet.
func (d *Documents) empty() bool { return len(*d.current.Load()) == 0 }

// What a document is, as the metrics call it.
const (
	configurationDocument = "configuration"
	jwksDocument          = "jwks"
	pageDocument          = "page"
	noDocument            = "none"
)

// A document is a response that is ready to be sent. The header values are
// slices so that they go into the header map as they are.
type document struct {
	name          string
	body          []byte
	etag          string
	contentType   []string
	contentLength []string
	cacheControl  []string
	etagHeader    []string
}

func newDocument(name, contentType string, maxAge time.Duration, body []byte) *document {
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	return &document{
		name: name, body: body, etag: etag,
		contentType:   []string{contentType},
		contentLength: []string{fmt.Sprint(len(body))},
		cacheControl:  []string{fmt.Sprintf("public, max-age=%d", int(maxAge/time.Second))},
		etagHeader:    []string{etag},
	}
}
