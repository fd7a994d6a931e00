package fleet

import (
	"context"
	"time"

	"oidc-provider/internal/config"
	"oidc-provider/internal/mirror"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// A source is where the keys of an issuer come from, under one configuration.
type source interface {
	// run keeps the documents up to date until ctx is done. It calls published
	// when there are some, and may call it again; published reports whether they
	// are the ones that are served. An error means that the source can never work.
	run(ctx context.Context, published func() bool) error

	// settled reports whether there are documents, or it is known why not.
	settled() bool

	// doing returns what the source has been doing for long, "" if that is nothing
	// unusual.
	doing() string

	// checks are for /readyz. They decide whether the issuer can be served.
	checks() []web.Check

	// collect adds the metrics of the source.
	collect(to sample, now time.Time)

	// legacy returns what a successor must know.
	legacy() legacy
}

// A legacy is what a source knows that the source which replaces it needs: no key
// may get lost, and no kid may name another key, because a configuration changed.
type legacy struct {
	// ring is what was seen of the ring in the store of that name. Nil if the
	// source is not managed, or has not read a ring.
	ring  *rotation.Seen
	store string

	// mirror has published third-party keys. Nil if the source has none.
	mirror *mirror.Mirror
}

// A predecessor is the revision of an issuer that is served until the next one has
// something to publish.
type predecessor interface {
	// keyIDs returns the kids that are published now.
	keyIDs() []string
	legacy() legacy
}

// newSource returns the source of cfg, which publishes to docs. before is nil if
// no revision of the issuer has published anything.
func (s *issuers) newSource(cfg *config.Issuer, docs *web.Documents, before predecessor) source {
	log := s.log.With("issuer", cfg.Issuer)
	if cfg.Managed != nil {
		return newManaged(managedConfig{
			Issuer: cfg, Documents: docs, Sockets: s.sockets, Predecessor: before,
			FailFast: s.failFast, TrustClock: s.trustClock, Opened: s.opened, Log: log,
		})
	}
	m, err := newMirrored(cfg, docs, s.stateDir, before, s.log)
	if err != nil {
		log.Error("an issuer cannot be served", "err", err)
		return broken{err}
	}
	return m
}

// A broken source could not be made from its configuration.
type broken struct{ error }

func (broken) run(ctx context.Context, _ func() bool) error { <-ctx.Done(); return nil }
func (broken) settled() bool                                { return true }
func (broken) doing() string                                { return "" }
func (broken) collect(sample, time.Time)                    {}
func (broken) legacy() legacy                               { return legacy{} }
func (b broken) checks() []web.Check {
	return []web.Check{{Name: "keys", Run: func() (string, error) { return "", b.error }}}
}
