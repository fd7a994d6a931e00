package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/config"
	"oidc-provider/internal/kube"
	"oidc-provider/internal/signer"
	"oidc-provider/internal/store"
	"oidc-provider/internal/store/secret"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// A managed source is a ring that this process keeps going.
type managed struct {
	cfg     *config.Managed
	maxAge  time.Duration // the longer one of the two documents
	issuer  discovery.Issuer
	docs    *web.Documents
	sockets *signer.Sockets
	log     *slog.Logger

	// shows are the kids that the issuer shows under the configuration before:
	// the ring must know them. Nil if there was none.
	shows func() []string

	// after keeps the ring in the same store until then, nil if nothing does:
	// what it has seen of the ring counts.
	after *managed

	// once makes everything but a store that is away final. Otherwise it is
	// tried again, since somebody may mend it.
	once bool
	// opened is told of the ring, and whether its keys were made just now.
	opened func(ring *rotation.Ring, made bool)

	// For run alone, nil until they are open.
	place  *store.Handle
	socket *signer.Socket

	rotator atomic.Pointer[rotation.Rotator] // nil until the ring was read
	waiting atomic.Pointer[string]           // why it was not
}

// Times between two attempts to open a ring: the first while its store is away,
// and at most the second while something else is wrong with it.
const (
	retryOpen    = 500 * time.Millisecond
	maxRetryOpen = 15 * time.Second
)

// run implements [source]. The socket comes before the ring: one that is taken
// should change no key.
func (m *managed) run(ctx context.Context, shown func() bool) error {
	defer m.close()
	after := retryOpen
	for {
		err := m.work(ctx, shown)
		switch {
		case ctx.Err() != nil:
			return nil // what was cut short says nothing
		case errors.Is(err, rotation.ErrUnavailable):
			after = retryOpen
		case m.once:
			return err
		default:
			after = min(2*after, maxRetryOpen)
		}
		reason := err.Error()
		if before := m.waiting.Swap(&reason); before == nil || *before != reason {
			if errors.Is(err, rotation.ErrUnavailable) {
				m.log.Error("waiting for the store", "err", err)
			} else {
				m.log.Error("the ring cannot be used; trying again", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(after):
		}
	}
}

// work opens the socket and the ring, and keeps that going until ctx is done or
// the socket breaks.
func (m *managed) work(ctx context.Context, shown func() bool) error {
	if m.socket == nil && m.cfg.SignerSocket != "" {
		var err error
		if m.socket, err = m.sockets.Acquire(ctx, m.cfg.SignerSocket, m.issuer.String()); err != nil {
			return err
		}
	}
	rotator, err := m.openRing(ctx)
	if err != nil {
		if m.place != nil && !errors.Is(err, rotation.ErrUnavailable) {
			m.place.Close() // it may have been opened with files that are mended by then
			m.place = nil
		}
		return err
	}
	m.rotator.Store(rotator)
	m.waiting.Store(nil)
	if !shown() { // what signs next must be published first
		<-ctx.Done() // not wanted any more
		return nil
	}
	if m.socket == nil {
		rotator.Run(ctx)
		return nil
	}
	m.socket.Use(ctx, rotator, time.Duration(m.cfg.RefreshHint))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(m.socket.Context(), stop)()
	rotator.Run(ctx)
	if broken := context.Cause(m.socket.Context()); broken != nil {
		m.sockets.Release(m.socket)
		m.socket = nil
		return broken
	}
	return nil
}

func (m *managed) close() {
	m.sockets.Release(m.socket)
	if m.place != nil {
		m.place.Close()
	}
}

// openRing reads the ring, and makes it when it is this server's to make.
// Nothing is written before everything that could refuse the ring has seen it.
func (m *managed) openRing(ctx context.Context) (*rotation.Rotator, error) {
	if m.place == nil {
		opened, err := store.Open(m.cfg.Config)
		if err != nil {
			return nil, err
		}
		m.place = opened
	}
	place := m.place
	if err := m.checkSecret(ctx, place); err != nil {
		return nil, err
	}
	// As long as the store is down, nobody else is asked.
	if _, err := place.Read(ctx); err != nil && !errors.Is(err, rotation.ErrEmpty) {
		return nil, err
	}
	seen, memory, err := m.seen(ctx)
	if err != nil {
		return nil, err
	}
	// What others have seen was in the ring before: it is read after them.
	ring, made, err := m.findRing(ctx, place)
	if err != nil {
		return nil, err
	}
	if err := m.checkShown(ring); err != nil {
		return nil, err
	}
	if m.after != nil && m.after.rotator.Load() != nil {
		known := m.after.rotator.Load().View().Ring().Seen()
		known.By = "this process"
		seen = append(seen, known)
	}
	if err := checkAgainst(ring, seen, func(w string) { m.log.Warn(w) }); err != nil {
		return nil, fmt.Errorf("%w; %s asks nobody", err, m.say("--witness none", "witnesses: [none]"))
	}
	if made {
		m.log.Info("made the first keys of the issuer", "store", m.cfg.Store)
		if err := place.Create(ctx, ring); err != nil {
			return nil, err
		}
	}
	if !m.cfg.PublishOnly {
		if err := checkOpens(ctx, place, ring); err != nil {
			return nil, err
		}
		if err := m.bringPolicy(ctx, place); err != nil {
			return nil, err
		}
	}
	rotator, err := rotation.Open(ctx, rotation.Config{
		Store: place.Store, Sealer: place.Sealer, PublishOnly: m.cfg.PublishOnly, Issuer: m.issuer.String(),
		Seen: seen, RollbackState: memory, Publishers: []rotation.Publisher{m.docs}, Log: m.log,
	})
	if err != nil {
		return nil, err
	}
	if m.shows != nil && !m.cfg.PublishOnly {
		// What is there may be able to, as while a KMS plugin is away.
		if _, err := rotator.Signer(time.Now()); err != nil {
			return nil, fmt.Errorf("it could not sign: %w", err)
		}
	}
	m.after = nil
	ring = rotator.View().Ring()
	m.warnOfRing(place, ring)
	m.opened(ring, made)
	return rotator, nil
}

// checkShown refuses a ring that would take keys away which relying parties go
// by: their tokens would end with the change.
func (m *managed) checkShown(ring *rotation.Ring) error {
	if m.shows == nil {
		return nil
	}
	for _, kid := range m.shows() {
		if !ring.Knows(kid) {
			return fmt.Errorf("the ring does not know key %s, which is published for this issuer now: tokens by it would end (hint: `%s keys import` brings it in; if it is meant, remove the issuer first and add it with a second change)", kid, program())
		}
	}
	return nil
}

// say is how something is called by those who type flags, or who write a file.
func (m *managed) say(flag, field string) string {
	if m.once {
		return flag
	}
	return field
}

// seen is what witnesses show, and what this server remembers in memory, if it is
// to remember.
func (m *managed) seen(ctx context.Context) (seen []rotation.Seen, memory rotation.Store, err error) {
	level := slog.LevelInfo // the default witness may be what is started here
	if len(m.cfg.Witnesses) > 0 {
		level = slog.LevelWarn
	}
	witnesses := witnessFlags{witnesses: m.cfg.Witnesses, caFile: m.cfg.WitnessCAFile}
	seen, err = witnesses.ask(ctx, m.issuer.String(), func(witness string, err error) {
		if m.waiting.Load() != nil {
			return // it was told with the first attempt
		}
		m.log.Log(ctx, level, "the ring is not compared with what a witness shows", "witness", witness, "err", err)
	})
	if err != nil || m.cfg.RollbackState == "" {
		return seen, nil, err
	}
	memory = store.NewFile(m.cfg.RollbackState)
	recalled, err := rotation.ReadRollbackState(ctx, memory)
	if err != nil {
		return nil, nil, err
	}
	if recalled != nil {
		seen = append(seen, *recalled)
	}
	return seen, memory, nil
}

// checkOpens refuses to start where no token could be signed: a wrong identity
// should be noticed before anything is changed. A plugin that is away may come.
func checkOpens(ctx context.Context, place *store.Handle, ring *rotation.Ring) error {
	open, err := ring.Unseal(ctx, place.Sealer)
	if err == nil || errors.Is(err, rotation.ErrUnavailable) || open.Active(open.At(time.Now())).SigningKey() != nil {
		return nil
	}
	return err
}

// checkSecret refuses to sign for an API server that keeps the keys: once both
// are down, neither comes up without the other.
func (m *managed) checkSecret(ctx context.Context, place *store.Handle) error {
	s, ok := place.Store.(*secret.Store)
	if !ok || m.cfg.SignerSocket == "" {
		return nil
	}
	cfg, err := kube.Config(m.cfg.Kubeconfig, m.cfg.Context)
	if err != nil {
		return err
	}
	issuer := m.issuer.String()
	theirs := secret.TokenIssuer(cfg)
	if theirs != issuer { // it may be a person's
		switch theirs, err = s.Issuer(ctx); {
		case errors.Is(err, rotation.ErrUnavailable):
			return fmt.Errorf("%w; if it waits for this server to sign, neither will ever come up: keep the ring in etcd or in files", err)
		case err != nil:
			m.log.Warn("cannot tell whether the API server with the ring is one that this server signs for: it must not be", "err", err)
		}
	}
	if theirs == issuer {
		return fmt.Errorf("the API server that keeps this Secret is one of issuer %s, for which this server signs: it could not start without its signer, nor the signer without it (hint: keep the ring in etcd, in files or in another cluster; %s may read it from here)", theirs, m.say("--publish-only", "publishOnly"))
	}
	return nil
}

// findRing reads the ring, and makes one, which is not written yet, only where
// that is wanted.
func (m *managed) findRing(ctx context.Context, place *store.Handle) (ring *rotation.Ring, made bool, err error) {
	ring, err = place.Read(ctx)
	if err == nil {
		return ring, false, ring.CheckIssuer(m.issuer.String())
	}
	switch {
	case !errors.Is(err, rotation.ErrEmpty):
		return nil, false, err
	case m.cfg.PublishOnly:
		return nil, false, fmt.Errorf("%w; %s makes none", err, m.say("--publish-only", "publishOnly"))
	case !m.cfg.Create || m.shows != nil:
		return nil, false, fmt.Errorf("it holds no ring, and none is made in a place that was named (hint: if it is really new, run `%s keys init --store %s --issuer %s`)",
			program(), m.cfg.Store, m.issuer)
	}
	ring, err = rotation.New(m.issuer.String(), m.cfg.Policy.Rotation(), time.Now(), rotation.GenerateKey)
	return ring, true, err
}

// bringPolicy writes the policy that was asked for into the ring. A store that
// takes no writes does not keep the server from publishing and signing under
// the policy that stands there.
func (m *managed) bringPolicy(ctx context.Context, place *store.Handle) error {
	signs := m.cfg.SignerSocket != ""
	var before, after rotation.Policy
	var refused error
	_, err := place.Update(ctx, func(r *rotation.Ring) (*rotation.Ring, error) {
		if refused = r.CheckIssuer(m.issuer.String()); refused != nil {
			return r, refused
		}
		next, err := rotation.SetPolicy(r, m.cfg.Policy.Rotation(), time.Now())
		if err != nil {
			return r, err
		}
		before, after = r.Policy, next.Policy
		if lifetime := time.Duration(after.MaxTokenLifetime); signs && lifetime < signer.MinTokenLifetime {
			refused = fmt.Errorf("max-token-lifetime is %v, and kube-apiserver wants at least %v from its signer (hint: %s %v)", lifetime, signer.MinTokenLifetime, m.say("add --max-token-lifetime", "maxTokenLifetime:"), signer.MinTokenLifetime)
			return r, refused
		}
		return next, nil
	})
	switch {
	case refused != nil:
		return refused
	case errors.Is(err, rotation.ErrUnavailable) && before == rotation.Policy{}:
		return err // the ring was not even read
	case err != nil:
		m.log.Error("the policy could not be written; the one in the ring stays in force", "err", err)
	case before != after:
		m.log.Info("changed the policy of the ring", "from", before, "to", after)
		if signs && after.MaxTokenLifetime < before.MaxTokenLifetime {
			m.log.Warn("max-token-lifetime is shorter now: restart every kube-apiserver, which asks for it only when it starts, or its requests for longer tokens are refused", "maxTokenLifetime", after.MaxTokenLifetime)
		}
		if after.PublishAhead < before.PublishAhead {
			m.log.Info("publish-ahead is shorter now, in full for keys that come once the longer one is over: until then caches may hold what was published under it", "publishAhead", after.PublishAhead)
		}
		if before.Algorithm != after.Algorithm || before.RSABits != after.RSABits {
			m.log.Info("the next key is published already: new keys after it follow the new policy", "algorithm", after.Algorithm, "rsaBits", after.RSABits)
		}
	}
	return nil
}

func (m *managed) warnOfRing(place *store.Handle, r *rotation.Ring) {
	if w := place.PlainWarning(r); w != "" {
		m.log.Warn(w)
	}
	for _, w := range r.Policy.Warnings() {
		m.log.Warn(w)
	}
	if limit := r.Policy.MaxAgeLimit(); m.maxAge > limit {
		m.log.Warn("max-age is lowered: caches must expire before a key signs that they do not hold", "limit", limit, "publishAhead", r.Policy.PublishAhead, "clockSkew", r.Policy.ClockSkew)
	}
}

// settled implements [source].
func (m *managed) settled() bool { return m.rotator.Load() != nil || m.waiting.Load() != nil }

// checks implements [source].
func (m *managed) checks() []web.Check {
	return []web.Check{
		{Name: "keys", Run: m.checkKeys},
		{Name: "rotation", Advisory: true, Run: m.checkRotation},
	}
}

func (m *managed) checkKeys() (string, error) {
	rotator, reason := m.rotator.Load(), m.waiting.Load()
	switch {
	case rotator == nil && reason != nil:
		return "", errors.New("the ring has not been read yet: " + *reason)
	case rotator == nil:
		return "", errors.New("the ring has not been read yet")
	case reason != nil:
		return "", errors.New(*reason)
	}
	now := time.Now()
	if err := rotator.Ready(now); err != nil {
		return "", err
	}
	ring := rotator.View().Ring()
	known := fmt.Sprintf("ring generation %d, read %v ago", ring.Generation, rotator.ReadAge(now).Round(time.Millisecond))
	if rotator.PublishOnly() {
		return fmt.Sprintf("%d keys published; %s", len(rotator.View().KeySet()), known), nil
	}
	signs, err := rotator.Signer(now)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s signs; %s", signs.Key.KeyID(), known), nil
}

func (m *managed) checkRotation() (string, error) {
	rotator := m.rotator.Load()
	if rotator == nil {
		return "", errors.New("the ring has not been read yet")
	}
	if failure := rotator.Failure(); failure != nil {
		return "", failure
	}
	ring := rotator.View().Ring()
	return nextHandOver(ring, ring.At(time.Now()))
}

// nextHandOver says when that is, with an error if it is not planned, or if
// copies may lack a key that does not wait for them.
func nextHandOver(ring *rotation.Ring, at time.Time) (string, error) {
	active, standby, w := ring.Active(at), ring.Standby(at), ring.Waiting(at)
	var said string
	var wrong []string
	if lacking := ring.Lacking(active); len(lacking) > 0 {
		wrong = append(wrong, fmt.Sprintf("%s signs, and %s not acknowledged it", active.KeyID, copiesHave(lacking)))
	}
	switch {
	case w != nil && len(w.Copies) > 0:
		due := "is due at"
		if !at.Before(w.Due) {
			due = "was due at"
		}
		wrong = append(wrong, fmt.Sprintf("the hand-over to %s %s %s and waits for %s, while the active key signs", w.KeyID, due, formatTime(w.Due), strings.Join(waitsFor(w), ", ")))
	case standby == nil || standby.SignFrom.IsZero():
		return "", errors.New(strings.Join(append(wrong, "the next hand-over is not planned yet"), "; "))
	default:
		said = fmt.Sprintf("%s signs from %s", standby.KeyID, formatTime(standby.SignFrom))
		if lacking := ring.Lacking(standby); len(lacking) > 0 {
			wrong = append(wrong, fmt.Sprintf("%s, and %s not acknowledged it", said, copiesHave(lacking)))
		}
	}
	if len(wrong) > 0 {
		kid := active.KeyID
		if standby != nil {
			kid = standby.KeyID
		}
		return "", fmt.Errorf("%s (hint: bring the key set there, and then run `%s keys copies confirm COPY %s` on this store)", strings.Join(wrong, "; "), program(), kid)
	}
	return said, nil
}
