package rotation_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// The world of the simulation: a store that lies about its writes, replicas
// whose clocks differ, publishers that fail, and relying parties that cache.
// It keeps its own books about what was shown and signed when, in true time,
// and never asks the code under test for them.

const simIssuer = "https://oidc.example.test"

var errHostile = errors.New("the hostile store says no")

type fault int

const (
	noFault    fault = iota
	failBefore       // nothing is written, and an error returned
	failAfter        // it is written, and an error returned
	loseRace         // somebody else writes first
)

// hostileStore is the one true ring.
type hostileStore struct {
	w       *world
	data    []byte
	version int
	fault   fault // of the next Swap
	kept    []byte
}

func (h *hostileStore) current() rotation.Version {
	if h.version == 0 {
		return ""
	}
	return rotation.Version(fmt.Sprint(h.version))
}

func (h *hostileStore) swap(data []byte, old rotation.Version) error {
	f := h.fault
	if h.fault = noFault; f != noFault {
		h.w.count.faults++
	}
	switch {
	case f == failBefore:
		return errHostile
	case h.current() != old || f == loseRace:
		return rotation.ErrConflict
	}
	h.w.persist(data)
	if f == failAfter {
		return errHostile
	}
	return nil
}

// link is one replica's way to the store.
type link struct {
	store *hostileStore
	cut   bool
	// doubt is the two rings that may be true after a write of unknown
	// outcome, until the next read.
	doubt []*rotation.Ring
}

func (l *link) Load(context.Context) ([]byte, rotation.Version, error) {
	if l.cut {
		return nil, "", errHostile
	}
	l.doubt = nil
	return slices.Clone(l.store.data), l.store.current(), nil
}

func (l *link) Swap(_ context.Context, data []byte, old rotation.Version) error {
	if l.cut {
		return errHostile
	}
	before := l.store.data
	err := l.store.swap(data, old)
	if err == errHostile {
		l.doubt = []*rotation.Ring{l.store.w.decode(before), l.store.w.decode(data)}
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
	offset time.Duration // its clock is that much ahead
	places [2]*place
	r      *rotation.Rotator // nil while it is down
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
	t        *rapid.T
	now      time.Time // true time
	skew     time.Duration
	store    *hostileStore
	ring     *rotation.Ring // what is in the store
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

	emergency bool // an operator is forcing or revoking
	count     struct{ tokens, refused, faults, fetches int }
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

func newWorld(t *rapid.T, p rotation.Policy) *world {
	w := &world{
		t: t, now: simStart, skew: time.Duration(p.ClockSkew),
		pool: simKeys, published: map[string]time.Time{}, ahead: map[string]time.Duration{}, exempt: map[string]bool{},
		tokens: map[string]time.Time{}, revoked: map[string]bool{}, gone: map[string]bool{},
	}
	w.store = &hostileStore{w: w}
	r, err := rotation.New(simIssuer, p, w.now, w.generate)
	if err != nil {
		t.Fatal(err)
	}
	w.exempt[r.Active(w.now).KeyID] = true
	if err := rotation.Create(context.Background(), w.cli(), nil, r); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		rep := &replica{link: w.cli(), places: [2]*place{{w: w}, {w: w}}}
		w.replicas = append(w.replicas, rep)
		w.start(rep)
		w.tick(rep) // the ring is in use from the beginning
	}
	for range 4 {
		w.parties = append(w.parties, &relyingParty{})
	}
	return w
}

func (w *world) cli() *link { return &link{store: w.store} }

func (w *world) generate(rotation.Policy) (*jwks.SigningKey, error) {
	if w.made == len(w.pool) {
		w.t.Fatal("out of keys: is one made at every tick?")
	}
	key := w.pool[w.made]
	w.made++
	der, err := key.PKCS8()
	// The scalar of P-256 stands at a fixed place in PKCS #8.
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
	return r
}

// persist is the moment at which a ring becomes the true one.
func (w *world) persist(data []byte) {
	if w.store.kept != nil {
		w.t.Fatalf("invariant 7: unreadable data was replaced")
	}
	next := w.decode(data)
	if w.ring != nil {
		w.checkSuccession(w.ring, next)
	}
	w.ring = next
	w.store.data = slices.Clone(data)
	w.store.version++
}

func (w *world) start(rep *replica) {
	rep.places[0].shown, rep.places[1].shown = nil, nil
	r, err := rotation.OpenAt(context.Background(), rotation.Config{
		Store: rep.link, Issuer: simIssuer, Generate: w.generate,
		Publishers: []rotation.Publisher{rep.places[0], rep.places[1]},
		Log:        slog.New(slog.NewTextHandler(&w.out, nil)),
	}, w.now.Add(rep.offset))
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
		again, err := rep.r.Tick(context.Background(), w.now.Add(rep.offset))
		if err != nil {
			fmt.Fprintln(&w.out, err)
		}
		w.book(rep)
		if !again {
			return
		}
	}
}

// book notes what a replica shows.
func (w *world) book(rep *replica) {
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
			local := w.now.Add(rep.offset)
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
		w.now = next
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
			if rep.r == nil || rep.r.Ready(w.now.Add(rep.offset)) != nil {
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
	if rep.r == nil {
		return
	}
	local := w.now.Add(rep.offset)
	s, err := rep.r.Signer(local)
	if err != nil {
		w.count.refused++
		fmt.Fprintln(&w.out, err)
		return
	}
	w.count.tokens++
	kid := s.Key.KeyID()
	w.checkSigned(rep, kid, local)
	if exp := local.Add(s.MaxTokenLifetime); exp.After(w.tokens[kid]) {
		w.tokens[kid] = exp
	}
}
