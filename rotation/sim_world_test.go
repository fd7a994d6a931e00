package rotation_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"oidc-provider/internal/store"
	"oidc-provider/internal/store/storetest"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// The world of the simulation: a store of one kind or another that lies about
// its writes, replicas whose clocks differ, publishers that fail, and relying parties that cache.
// It keeps its own books about what was shown and signed when, in true time,
// and never asks the code under test for them.

const simIssuer = "https://oidc.example.test"

// link is one process's way to the store.
type link struct {
	*storetest.Handle
	w *world
	// doubt is the two rings that may be true after a write of unknown
	// outcome, until the next read.
	doubt []*rotation.Ring
	// rep is the replica, nil for an operator.
	rep *replica
}

func (l *link) Load(ctx context.Context) ([]byte, rotation.Version, error) {
	data, v, err := l.Handle.Load(ctx)
	if err == nil {
		l.doubt = nil
	}
	return data, v, err
}

func (l *link) Swap(ctx context.Context, data []byte, old rotation.Version) error {
	if l.rep != nil {
		l.rep.checkWrites(l.w)
	}
	before := l.w.store.Data()
	err := l.Handle.Swap(ctx, data, old)
	if err != nil && !errors.Is(err, rotation.ErrConflict) && !l.Cut() {
		l.doubt = []*rotation.Ring{l.w.decode(before), l.w.decode(data)}
		// It may have been sent, and be on its way.
		if at := l.w.now.Add(l.w.lateBy); l.w.landAt.IsZero() || at.Before(l.w.landAt) {
			l.w.landAt = at
		}
		l.w.lateEmergency[string(data)], l.w.lateWaits[string(data)] = l.w.emergency, l.w.waits
	}
	return err
}

// place publishes for one replica; each has two, as a server with a mirror.
type place struct {
	w       *world
	failing bool
	shown   map[string]bool
}

func (p *place) Publish(_ context.Context, v *rotation.View) error {
	if p.failing {
		return errors.New("the place cannot be reached")
	}
	p.shown = make(map[string]bool)
	for _, k := range v.KeySet() {
		p.shown[k.KeyID()] = true
	}
	data, err := jwks.Marshal(v.KeySet())
	p.w.out.Write(data)
	return err
}

type replica struct {
	link   *link
	memory *store.Memory // survives it
	sealer *box
	// publishOnly replicas neither sign nor write. One that allows it accepted the
	// ring when it was not signed.
	publishOnly, allows bool
	healed              time.Time // when the plugin came back

	// read is the true time of its last read, which its clock called lastRead.
	read     time.Time
	lastRead *time.Time

	offset   time.Duration // its clock is that much ahead
	evidence evidence      // for its clock
	sure     bool          // the evidence was good when it asked last
	places   [2]*place
	r        *rotation.Rotator // nil while it is down
}

func (rep *replica) shows(kid string) bool {
	return rep.places[0].shown[kid] && rep.places[1].shown[kid]
}

// A relyingParty caches what one replica showed, for max-age, and never
// refetches early.
type relyingParty struct {
	keys             map[string]bool
	fetched, expires time.Time
}

type world struct {
	t      rapid.TB
	now    time.Time // true time
	skew   time.Duration
	store  *storetest.Fake
	ring   *rotation.Ring // what is in the store
	kept   bool           // it must not be replaced now
	branch bool           // what is written now follows an old backup
	signed bool           // the ring is, from the beginning
	future bool           // the ring is from the future
	backup []byte         // an old document

	// A write that was answered with an error may land at landAt, lateBy
	// later or, if there are more, with the first; zero if there is none.
	landAt        time.Time
	lateBy        time.Duration
	lateEmergency map[string]bool   // by document
	lateWaits     map[string]string // the same

	replicas []*replica
	parties  []*relyingParty
	pool     []*jwks.SigningKey
	made     int

	out     bytes.Buffer // everything that was logged, shown or returned as an error
	secrets []string

	published map[string]time.Time     // when all places of a replica first showed it
	ahead     map[string]time.Duration // PublishAhead at that time
	exempt    map[string]bool          // may sign before that: first, forced, emergency
	tokens    map[string]time.Time     // the latest exp signed
	revoked   map[string]bool
	gone      map[string]bool

	// copies are those that are named now. plans is which of them were named
	// when the activation to a key was planned in a generation, and
	// promised those that a key has waited for since they were named, whichever
	// plan a replica knows.
	copies   map[string]*simCopy
	plans    map[int64]map[string][]*simCopy
	promised map[string][]*simCopy

	emergency bool   // an operator is forcing or revoking
	waits     string // the key that waits for the copy that is being named, or has lost it, as an operator read
	count     struct{ tokens, refused, fetches, copies, brought, lost, waited, wrong, future int }
}

var simStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// simKeys are made once: the simulation is about time, not about keys.
var simKeys = func() []*jwks.SigningKey {
	keys := make([]*jwks.SigningKey, 4000)
	for i := range keys {
		key, err := jwks.Generate(jose.ES256, 0)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
}()

// recipients seal the ring of a world that is sealed, and sign it.
var recipients = []string{"replicas", "safe"}

// operator has the identity that is in the safe, glass one that may only revoke, and
// adversary one that nobody has ever let sign a ring.
var operator, glass, adversary = &box{owner: "safe"}, &box{owner: "glass"}, &box{owner: "adversary"}

func writerID(b *box) rotation.WriterID {
	keys, _ := b.WriterKeys(context.Background(), nil)
	return keys[0].ID()
}

// access is that of a replica with an identity, or of one that only publishes.
func (w *world) access(rep *replica) rotation.Access {
	if rep.publishOnly { // an operator has pinned a writer that came later, too
		pinned := []rotation.WriterID{writerID(operator), writerID(&box{owner: "newcomer"})}
		return rotation.Access{Signers: pinned, AllowUnsigned: !w.signed}
	}
	return rotation.Access{Sealer: rep.sealer, AllowUnsigned: !w.signed || rep.allows}
}

func newWorld(t rapid.TB, p rotation.Policy, kind storetest.Kind, sealed bool) *world {
	w := &world{
		t: t, now: simStart, skew: time.Duration(p.ClockSkew),
		pool: simKeys, published: map[string]time.Time{}, ahead: map[string]time.Duration{}, exempt: map[string]bool{},
		tokens: map[string]time.Time{}, revoked: map[string]bool{}, gone: map[string]bool{}, lateEmergency: map[string]bool{},
		lateWaits: map[string]string{}, copies: map[string]*simCopy{}, promised: map[string][]*simCopy{}, plans: map[int64]map[string][]*simCopy{},
	}
	w.store = storetest.NewFake(kind)
	w.store.OnWrite = w.persist
	r, err := rotation.New(simIssuer, p, w.now, w.generate)
	if err != nil {
		t.Fatal(err)
	}
	w.signed = sealed
	if sealed {
		r.Recipients = recipients
		if r, err = rotation.Enroll(context.Background(), r, &box{owner: strings.Join(recipients, " ")}, nil, w.now); err != nil {
			t.Fatal(err)
		}
	}
	w.exempt[r.Active(w.now).KeyID] = true
	if err := rotation.Create(context.Background(), w.cli(), &box{owner: strings.Join(recipients, " ")}, r); err != nil {
		t.Fatal(err)
	}
	if sealed {
		w.operate(func(r *rotation.Ring) (*rotation.Ring, error) {
			return rotation.AddWriter(context.Background(), r, operator, rotation.Writer{ID: writerID(glass), Name: "glass", RevokeOnly: true}, w.now)
		})
	}
	w.backup = w.store.Data()
	for i := range 4 {
		rep := &replica{
			link: w.cli(), memory: &store.Memory{}, sealer: &box{owner: "replicas"}, publishOnly: i == 3,
			places: [2]*place{{w: w}, {w: w}},
		}
		rep.link.rep = rep
		if i == 1 {
			rep.evidence = trusted
		}
		w.replicas = append(w.replicas, rep)
		w.start(rep)
		if rep.r == nil {
			t.Fatalf("replica %d does not start: %s", i, w.out.String())
		}
		w.tick(rep) // the ring is in use from the beginning
	}
	for range 4 {
		w.parties = append(w.parties, &relyingParty{})
	}
	return w
}

func (w *world) cli() *link { return &link{Handle: w.store.Handle(), w: w} }

func (w *world) generate(rotation.Policy) (*jwks.SigningKey, error) {
	if w.made == len(w.pool) {
		w.t.Fatal("out of keys: is one made at every tick?")
	}
	key := w.pool[w.made]
	w.made++
	der, err := key.PKCS8()
	// The scalar of P-256 is at a fixed place in PKCS #8.
	scalar := der[36:68]
	w.secrets = append(w.secrets, base64.StdEncoding.EncodeToString(der)[48:88], hex.EncodeToString(scalar),
		strings.Trim(fmt.Sprint(scalar), "[]"), strings.Trim(fmt.Sprintf("%#v", scalar), "[]byte{}"), string(scalar))
	return key, err
}

func (w *world) decode(data []byte) *rotation.Ring {
	r, err := rotation.Decode(data)
	if err != nil {
		w.t.Fatalf("invariant 1: a ring was written that cannot be used: %v", err)
	}
	if r, err = r.Unseal(context.Background(), &box{owner: "safe"}); err != nil {
		w.t.Fatalf("invariant 1: a ring was written that cannot be opened: %v", err)
	}
	for _, k := range r.Keys {
		if len(r.Recipients) > 0 && len(k.Private) > 0 {
			w.t.Fatalf("invariant 5: the private half of key %s was written as it is", k.KeyID)
		}
	}
	return r
}

// persist is the moment at which a ring becomes the true one.
func (w *world) persist(data []byte) {
	if w.kept {
		w.t.Fatalf("invariant 7: what is no successor of the ring was replaced")
	}
	next := w.decode(data)
	if w.branch {
		return
	}
	if w.ring != nil && next.Generation == w.ring.Generation { // a revocation was added
		w.noteRevocations(next)
		w.ring = next
		return
	}
	if w.ring != nil {
		waits := w.waits
		if waits == "" {
			waits = w.lateWaits[string(data)]
		}
		w.checkSuccession(w.ring, next, w.emergency || w.lateEmergency[string(data)] || struck(w.ring), waits)
	}
	w.ring = next
}

// land lets a late write arrive, if it is its time.
func (w *world) land() {
	if w.landAt.IsZero() || w.now.Before(w.landAt) {
		return
	}
	w.store.Land()
	w.landAt, w.lateEmergency, w.lateWaits = time.Time{}, map[string]bool{}, map[string]string{}
}

func (w *world) start(rep *replica) {
	rep.places[0].shown, rep.places[1].shown = nil, nil
	rep.learn(w)
	r, err := rotation.OpenAt(context.Background(), rotation.Config{
		Store: rep.link, Issuer: simIssuer, Generate: w.generate,
		Access: w.access(rep), PublishOnly: rep.publishOnly, RollbackState: rep.memory, Clock: rep.clock(w),
		Publishers: []rotation.Publisher{rep.places[0], rep.places[1]},
		Log:        slog.New(slog.NewTextHandler(&w.out, nil)),
	}, rep.local(w))
	if err != nil {
		fmt.Fprintln(&w.out, err)
	}
	rep.r = r
	w.book(rep)
}

// tick is what a replica's loop does at one moment.
func (w *world) tick(rep *replica) {
	for range 10 {
		if rep.r == nil {
			return
		}
		rep.learn(w)
		again, err := rep.r.Tick(context.Background(), rep.local(w))
		if err != nil {
			fmt.Fprintln(&w.out, err)
		}
		w.book(rep)
		if !again {
			return
		}
	}
}

// book notes what a replica shows, and when it has read the ring.
func (w *world) book(rep *replica) {
	if rep.r != nil && rep.r.LastRead() != rep.lastRead {
		rep.read, rep.lastRead = w.now, rep.r.LastRead()
	}
	for kid := range rep.places[0].shown {
		if _, known := w.published[kid]; !known && rep.shows(kid) {
			w.published[kid] = w.now
			w.ahead[kid] = time.Duration(w.ring.Policy.PublishAhead)
		}
	}
}

// pass lets time go by with every loop running, and tokens signed and relying
// parties fetching on the way.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	poll := time.Duration(w.ring.Policy.PublishAhead) / 3
	for w.now.Before(end) {
		next := w.now.Add(poll)
		for _, rep := range w.replicas {
			if rep.r == nil {
				continue
			}
			local := rep.local(w)
			at := rep.r.View().Ring().NextInstant(local)
			if at.IsZero() {
				continue
			}
			// The moment before is as interesting.
			wait := at.Sub(local)
			if wait > time.Millisecond {
				wait -= time.Millisecond
			}
			if wait < next.Sub(w.now) {
				next = w.now.Add(wait)
			}
		}
		if next.After(end) {
			next = end
		}
		if next.After(w.landAt) && w.landAt.After(w.now) {
			next = w.landAt
		}
		w.now = next
		w.land()
		for _, rep := range w.replicas {
			w.sign(rep)
			w.tick(rep)
			w.sign(rep)
		}
		w.fetch()
		w.check()
	}
}

// fetch renews every cache that has run out, from a replica that is ready.
func (w *world) fetch() {
	for i, party := range w.parties {
		if w.now.Before(party.expires) {
			continue
		}
		party.keys = nil
		for n := range w.replicas {
			rep := w.replicas[(i+n)%len(w.replicas)]
			if rep.r == nil || rep.r.Ready(rep.local(w)) != nil {
				continue
			}
			w.count.fetches++
			party.keys, party.fetched = rep.places[i%2].shown, w.now
			party.expires = w.now.Add(rep.r.View().Ring().Policy.MaxAgeLimit())
			break
		}
	}
}

// sign asks a replica for a token with the longest lifetime it allows.
func (w *world) sign(rep *replica) {
	if rep.r == nil || rep.publishOnly {
		return
	}
	local := rep.local(w)
	s, err := rep.r.Signer(local)
	if err != nil {
		w.count.refused++
		fmt.Fprintln(&w.out, err)
		return
	}
	w.count.tokens++
	kid := s.Key.KeyID()
	exp := rep.expires(w, s.MaxTokenLifetime)
	if exp.Before(w.now.Add(-w.skew / 2)) {
		return // it is signed too late for every other clock
	}
	w.checkSigned(rep, kid, local)
	if exp.After(w.tokens[kid]) {
		w.tokens[kid] = exp
	}
}
