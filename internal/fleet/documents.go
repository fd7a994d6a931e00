package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"oidc-provider/discovery"
	"oidc-provider/internal/config"
	"oidc-provider/internal/mirror"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// Documents returns the documents of an issuer as a server would publish them now.
// It changes nothing. If the source of third-party keys cannot be read, they are
// what a server has kept below stateDir, and stale is the reason.
func Documents(ctx context.Context, i *config.Issuer, stateDir string) (docs *web.Documents, stale, err error) {
	if i.Managed != nil {
		docs, err = RingDocuments(ctx, i.Managed.Config, i.Issuer)
		return docs, nil, err
	}
	if docs, err = newDocuments(i.Issuer); err != nil {
		return nil, nil, err
	}
	c, err := MirrorConfig(i, stateDir)
	if err != nil {
		return nil, nil, err
	}
	// Problems are returned; only the server writes the state.
	c.Publish, c.Log, c.ReadOnly = docs.Show, slog.New(slog.DiscardHandler), true
	stale = mirror.New(c).Refresh(ctx)
	if !docs.Published() {
		return nil, nil, cmp.Or(stale, errors.New("there is nothing to publish"))
	}
	return docs, stale, nil
}

// RingDocuments returns the documents of the ring in a store, which must be that of
// issuer unless that is "". A signed ring must be trusted.
func RingDocuments(ctx context.Context, cfg store.Config, issuer string) (*web.Documents, error) {
	s, err := store.OpenFor(cfg, issuer)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	ring, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Access.Verify(ctx, ring); err != nil {
		return nil, fmt.Errorf("store %s: %w", s, err)
	}
	docs, err := newDocuments(ring.Issuer)
	if err != nil {
		return nil, err
	}
	return docs, docs.Publish(ctx, rotation.NewView(ring))
}

func newDocuments(issuer string) (*web.Documents, error) {
	parsed, err := discovery.ParseIssuer(issuer)
	if err != nil {
		return nil, err
	}
	return web.NewDocuments(web.DocumentsConfig{Issuer: parsed}), nil
}
