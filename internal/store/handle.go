package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/seal"
	"oidc-provider/rotation"
)

// A Handle is an open store, and the sealer for the private keys in it. Its errors
// name the store.
type Handle struct {
	// Store keeps the ring.
	Store rotation.Store
	// Sealer opens and seals private keys, and signs rings.
	Sealer *seal.Sealer
	// Access says which rings are trusted.
	Access rotation.Access

	name   string
	issuer string // whose ring it must be, "" for any

	guard func(*rotation.Ring) error // refuses a change; may be nil
}

// Open opens the store that cfg describes. It sends nothing, and nothing has to
// exist yet. The caller must close the handle.
func Open(cfg Config) (*Handle, error) { return OpenFor(cfg, "") }

// OpenFor is Open for a handle that refuses to read or write the ring of another
// issuer, unless issuer is "".
func OpenFor(cfg Config, issuer string) (*Handle, error) {
	access := rotation.Access{AllowUnsigned: cfg.AllowUnsignedRing}
	for _, text := range cfg.RingSigners {
		id, err := rotation.ParseWriterID(text)
		if err != nil {
			return nil, fmt.Errorf("ring signers: %w", err)
		}
		access.Signers = append(access.Signers, id)
	}
	sealer, err := seal.New(cfg.seal())
	if err != nil {
		return nil, err
	}
	access.Sealer = sealer
	s, err := openStore(cfg)
	if err != nil {
		sealer.Close()
		return nil, err
	}
	return &Handle{Store: s, Sealer: sealer, Access: access, name: cfg.Store, issuer: issuer}, nil
}

// Guarded returns h with a check that precedes every change of a ring. The caller
// must close it in the place of h.
func (h *Handle) Guarded(check func(*rotation.Ring) error) *Handle {
	guarded := *h
	guarded.guard = check
	return &guarded
}

// Close closes the connections to the store and to the KMS plugin.
func (h *Handle) Close() error {
	err := h.Sealer.Close()
	if c, ok := h.Store.(io.Closer); ok {
		err = errors.Join(c.Close(), err)
	}
	return err
}

// String returns the name of the store, as it was configured.
func (h *Handle) String() string { return h.name }

// Read returns the ring. Its error wraps [rotation.ErrEmpty] if there is none.
func (h *Handle) Read(ctx context.Context) (*rotation.Ring, error) {
	r, err := rotation.Read(ctx, h.Store)
	if err == nil {
		err = h.check(r)
	}
	return r, h.explain(err)
}

// ReadTrusted returns the ring. If an identity or a pinned writer is configured, its
// signature must be trusted.
func (h *Handle) ReadTrusted(ctx context.Context) (*rotation.Ring, error) {
	r, err := h.Read(ctx)
	if err == nil && (h.Sealer.HasIdentity() || len(h.Access.Signers) > 0) {
		err = h.explain(h.Access.Verify(ctx, r))
	}
	return r, err
}

// Create writes the first ring into an empty store. See [rotation.Create].
func (h *Handle) Create(ctx context.Context, r *rotation.Ring) error {
	err := h.check(r)
	if err == nil {
		err = rotation.Create(ctx, h.Store, h.Sealer, r)
	}
	return h.explain(err)
}

// Update changes the ring. See [rotation.Update].
func (h *Handle) Update(ctx context.Context, change func(*rotation.Ring) (*rotation.Ring, error)) (*rotation.Ring,
	error) {
	r, err := rotation.Update(ctx, h.Store, h.Access, func(r *rotation.Ring) (*rotation.Ring, error) {
		if err := h.check(r); err != nil {
			return r, err
		}
		if h.guard != nil {
			if err := h.guard(r); err != nil {
				return r, err
			}
		}
		return change(r)
	})
	return r, h.explain(err)
}

// RevokeAlone revokes a key for a writer that may do nothing else. See
// [rotation.RevokeAlone].
func (h *Handle) RevokeAlone(ctx context.Context, kid string) error {
	return h.explain(rotation.RevokeAlone(ctx, h.Store, h.Access, kid))
}

func (h *Handle) check(r *rotation.Ring) error {
	if h.issuer == "" {
		return nil
	}
	return r.CheckIssuer(h.issuer)
}

// explain adds to an error which store it is about.
func (h *Handle) explain(err error) error {
	switch {
	case errors.Is(err, rotation.ErrEmpty):
		return hint.Errorf("check that {store} names the right path or prefix; a new store gets its first keys with "+
			"`oidc-provider keys init`, or a cluster's own key with `oidc-provider keys import`", "store %s: %w", h.name, err)
	case err != nil:
		return fmt.Errorf("store %s: %w", h.name, err)
	}
	return nil
}

// PlainWarning returns what it means that r is in this store unsealed, or "" if
// it is sealed or the store is local.
func (h *Handle) PlainWarning(r *rotation.Ring) string {
	if _, local := h.Store.(*File); local || len(r.Recipients) > 0 {
		return ""
	}
	return fmt.Sprintf("the private keys in store %s are not sealed: anyone who can read the store, or a backup of "+
		"it, can sign tokens "+
		"(`oidc-provider keys reseal` seals them)", h.name)
}

// UnsignedWarning returns what it means that r is in this store without a signature,
// or "" if it is signed or the store is local.
func (h *Handle) UnsignedWarning(r *rotation.Ring) string {
	if _, local := h.Store.(*File); local || r.Signed() {
		return ""
	}
	return fmt.Sprintf("the ring in store %s is not signed: anyone who can write the store decides which keys sign and "+
		"are published (`oidc-provider keys sign` signs it)", h.name)
}
