package fleet_test

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/seal"
	"oidc-provider/internal/seal/kmstest"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// A world is a ring with a past, made by those who may: everything that was ever in
// its store, which the attacker has read, and the identities that he has stolen.
type world struct {
	kind   string
	config string // of its servers, as the fields of a managed issuer

	// Documents of the ring, the earliest first. The removed writer is one in
	// unrevoked and removing. In unrevoked, the revoked key is still active.
	unsigned, first, unrevoked, removing, good []byte

	next      []byte // good after two authorised changes
	struck    []byte // good, and the revocation of its next key
	fork      []byte // another ring of the generation of good
	elsewhere []byte // the ring of another issuer, with the same identity
	twin      []byte // another ring of the same issuer, with the same identity
	backup    []byte // of good, for other recipients

	// Identities that the attacker has stolen.
	removed, revoker *age.X25519Identity

	writer rotation.WriterID // that signs good

	t      testing.TB
	sealer *seal.Sealer
	now    time.Time
}

const attackedIssuer = "https://oidc.test"

// kinds of servers. The identity of the last two is that of another server.
var attackedKinds = []string{"age", "kms", "publish-only", "first use"}

func newWorld(t testing.TB, kind string) *world {
	t.Helper()
	w := &world{kind: kind, t: t, now: time.Now().Add(-3 * time.Hour)}
	w.removed, w.revoker = identity(t), identity(t)
	recipient, cfg := "kms", seal.Config{}
	if kind == "kms" {
		cfg.KMSSocket = kmstest.Socket(t)
		t.Cleanup(kmstest.New(t).Start(t, cfg.KMSSocket))
		w.config = fmt.Sprintf("kmsSocket: %s", cfg.KMSSocket)
	} else {
		id := identity(t)
		recipient, cfg.IdentityFiles = id.Recipient().String(), []string{identityFile(t, id)}
		w.config = fmt.Sprintf("ageIdentities: [%s]", cfg.IdentityFiles[0])
	}
	w.sealer = newSealer(t, cfg)
	w.develop(recipient)
	switch kind {
	case "publish-only":
		// A writer stays pinned after its removal.
		w.config = fmt.Sprintf("publishOnly: true, ringSigners: ['%s', '%s']", w.writer, writerID(writerKey(w.removed)))
	case "first use":
		w.config = "publishOnly: true"
	}
	return w
}

// develop makes the documents.
func (w *world) develop(recipient string) {
	must, ctx := w.must, w.t.Context()
	enroll := func(r *rotation.Ring) (*rotation.Ring, error) { return rotation.Enroll(ctx, r, w.sealer, nil, w.now) }
	add := func(id *age.X25519Identity, revokeOnly bool) func(r *rotation.Ring) (*rotation.Ring, error) {
		writer := rotation.Writer{ID: rotation.WriterID(writerKey(id).Public().(ed25519.PublicKey)), Name: "laptop", RevokeOnly: revokeOnly}
		return func(r *rotation.Ring) (*rotation.Ring, error) {
			return rotation.AddWriter(ctx, r, w.sealer, writer, w.now)
		}
	}
	plan := func(r *rotation.Ring) (*rotation.Ring, error) {
		next, _, err := rotation.Advance(r, w.now, r.Standby(w.now).KeyID, rotation.GenerateKey)
		return next, err
	}
	revokeActive := func(r *rotation.Ring) (*rotation.Ring, error) {
		next, _, err := rotation.Revoke(r, r.Active(w.now).KeyID, w.now, rotation.GenerateKey)
		return next, err
	}
	begin := func(issuer string) []byte {
		r := must(rotation.New(issuer, rotation.Policy{Algorithm: jose.ES256}, w.now, rotation.GenerateKey))
		r.Recipients = []string{recipient}
		return w.seal(r)
	}

	w.unsigned = begin(attackedIssuer)
	w.first = w.change(w.unsigned, enroll)
	w.unrevoked = w.change(w.change(w.first, add(w.removed, false)), add(w.revoker, true))
	w.removing = w.change(w.unrevoked, revokeActive)
	before := w.change(w.removing, func(r *rotation.Ring) (*rotation.Ring, error) {
		id := rotation.WriterID(writerKey(w.removed).Public().(ed25519.PublicKey))
		return rotation.RemoveWriter(ctx, r, w.sealer, id.String(), w.now)
	})
	w.good = w.change(before, plan)
	w.fork = w.change(before, func(r *rotation.Ring) (*rotation.Ring, error) {
		return rotation.SetPolicy(r, rotation.Policy{MaxTokenLifetime: rotation.Duration(time.Hour)}, w.now)
	})
	w.next = w.change(w.change(w.good, revokeActive), plan)

	w.elsewhere = w.change(w.change(begin("https://other.test"), enroll), plan)
	w.twin = w.change(w.change(begin(attackedIssuer), enroll), plan)
	for range 10 { // as many changes as the ring has
		w.twin = w.change(w.twin, revokeActive)
	}
	good := must(rotation.Decode(w.good))
	w.writer = good.Signers()[0]
	backup, err := rotation.Backup(ctx, good, []string{identity(w.t).Recipient().String()}, w.sealer)
	if err != nil {
		w.t.Fatal(err)
	}
	w.backup = backup
	w.struck = w.strike(good.Standby(w.now).KeyID)
}

// strike revokes a key of good with the identity that may do nothing else.
func (w *world) strike(kid string) []byte {
	w.t.Helper()
	ctx, s := w.t.Context(), new(store.Memory)
	access := rotation.Access{Signers: []rotation.WriterID{w.writer},
		Sealer: newSealer(w.t, seal.Config{IdentityFiles: []string{identityFile(w.t, w.revoker)}})}
	if err := s.Swap(ctx, w.good, ""); err != nil {
		w.t.Fatal(err)
	}
	if err := rotation.RevokeAlone(ctx, s, access, kid); err != nil {
		w.t.Fatal(err)
	}
	data, _, err := s.Load(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// change returns the document of the ring that change makes, a while after the last.
func (w *world) change(document []byte, change func(*rotation.Ring) (*rotation.Ring, error)) []byte {
	w.t.Helper()
	w.now = w.now.Add(time.Minute)
	return w.seal(w.must(change(w.must(rotation.Decode(document)))))
}

func (w *world) seal(r *rotation.Ring) []byte {
	w.t.Helper()
	data, err := w.must(r.Seal(w.t.Context(), w.sealer)).Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func (w *world) must(r *rotation.Ring, err error) *rotation.Ring {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func identityFile(t testing.TB, id *age.X25519Identity) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(path, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newSealer(t testing.TB, cfg seal.Config) *seal.Sealer {
	t.Helper()
	s, err := seal.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
