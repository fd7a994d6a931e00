package fleet

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"oidc-provider/discovery"
	"oidc-provider/internal/config"
	"oidc-provider/internal/signer"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// issuers are those that the process serves. Each has its own goroutines and
// shares nothing with the others that could make one wait for another.
type issuers struct {
	log      *slog.Logger
	site     *web.Site
	sockets  *signer.Sockets
	stateDir string

	// failFast is for the one issuer of a command line: an error ends the
	// process, and the operator who typed it sees why.
	failFast bool
	// trustClock says that an operator vouches for the clock of this machine.
	trustClock bool
	// opened is called with the ring of that issuer.
	opened func(ring *rotation.Ring, created bool)

	failed chan error     // what ends the process
	wg     sync.WaitGroup // of the sources

	mu    sync.Mutex // held by apply and by the switch to another revision
	byURL map[string]*issuer
	order atomic.Pointer[[]*issuer] // as configured, for readers without the lock
}

// An issuer is what is served under one URL.
type issuer struct {
	url  discovery.Issuer
	slot *web.Slot

	// current is the revision that is served. next replaces it as soon as it has
	// something to publish, and is nil if there is none.
	current, next atomic.Pointer[revision]
}

// A revision is an issuer under one configuration.
type revision struct {
	cfg  config.Issuer // guarded by issuers.mu
	docs *web.Documents
	source
	stop  context.CancelFunc // nil until it is started; guarded by issuers.mu
	ended atomic.Bool        // whether run has returned
}

// keyIDs implements [predecessor].
func (r *revision) keyIDs() []string { return r.docs.KeyIDs() }

// apply serves exactly the configured issuers. An issuer whose configuration has
// not changed is left alone. One that has changed keeps its documents until there
// is something to publish under the new configuration. Sources run until ctx is
// done.
func (s *issuers) apply(ctx context.Context, configured []config.Issuer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[string]*issuer, len(configured))
	order := make([]*issuer, 0, len(configured))
	var added, changed int
	for _, cfg := range configured {
		i := s.byURL[cfg.Issuer]
		switch {
		case i == nil:
			i = s.newIssuer(cfg)
			added++
		case s.change(i, cfg):
			changed++
		}
		wanted[cfg.Issuer] = i
		order = append(order, i)
	}
	previous := s.byURL
	s.byURL = wanted
	s.order.Store(&order)
	slots := make([]*web.Slot, len(order))
	for n, i := range order {
		slots[n] = i.slot
	}
	s.site.Set(slots)
	removed := s.stopRemoved(previous)
	if previous != nil {
		s.log.Info("the configuration is in force", "issuers", len(order), "added", added, "changed", changed, "removed",
			removed)
	}
	// New sources start last: nothing above waits for them.
	for _, i := range order {
		for _, r := range []*revision{i.current.Load(), i.next.Load()} {
			if r != nil && r.stop == nil {
				s.start(ctx, i, r)
			}
		}
	}
}

// stopRemoved stops the issuers of previous that are not served any more, and
// returns how many there are.
func (s *issuers) stopRemoved(previous map[string]*issuer) (removed int) {
	for url, i := range previous {
		if s.byURL[url] != nil {
			continue
		}
		s.log.Info("an issuer is not served any more", "issuer", url)
		i.current.Load().stop()
		if next := i.next.Load(); next != nil {
			next.stop()
		}
		removed++
	}
	return removed
}

func (s *issuers) newIssuer(cfg config.Issuer) *issuer {
	i := new(issuer)
	i.url, _ = discovery.ParseIssuer(cfg.Issuer) // config has checked it
	i.slot = web.NewSlot(i.url, func() *web.Documents { return i.current.Load().docs })
	i.current.Store(s.newRevision(i, cfg, nil))
	return i
}

// change gives i the configuration cfg, and reports whether it had another one.
func (s *issuers) change(i *issuer, cfg config.Issuer) bool {
	current, next := i.current.Load(), i.next.Load()
	switch {
	case next != nil && reflect.DeepEqual(next.cfg, cfg), next == nil && reflect.DeepEqual(current.cfg, cfg):
		return false
	case next == nil && onlyMaxAge(current.cfg, cfg):
		current.cfg = cfg
		if err := current.docs.SetMaxAge(time.Duration(cfg.JWKSMaxAge), time.Duration(cfg.DiscoveryMaxAge)); err != nil {
			s.log.Error("max-age cannot be changed", "issuer", cfg.Issuer, "err", err)
		}
		return true
	case reflect.DeepEqual(current.cfg, cfg) && !changesPolicy(next.cfg, cfg): // the change was taken back
		i.next.Store(nil)
	case !current.docs.Published(): // nothing has to be kept
		i.current.Store(s.newRevision(i, cfg, nil))
		i.next.Store(nil)
		current.stop()
	default:
		i.next.Store(s.newRevision(i, cfg, current))
	}
	if next != nil {
		next.stop()
	}
	return true
}

// changesPolicy reports whether a may have changed the policy of the ring of b.
func changesPolicy(a, b config.Issuer) bool {
	return a.Managed != nil && b.Managed != nil && a.Managed.Policy != b.Managed.Policy
}

// onlyMaxAge reports whether a and b differ in nothing that needs another
// source.
func onlyMaxAge(a, b config.Issuer) bool {
	a.JWKSMaxAge, a.DiscoveryMaxAge = b.JWKSMaxAge, b.DiscoveryMaxAge
	return reflect.DeepEqual(a, b)
}

// newRevision returns i under the configuration cfg. before is the revision that
// is published until then, nil if there is none.
func (s *issuers) newRevision(i *issuer, cfg config.Issuer, before *revision) *revision {
	docs := web.NewDocuments(web.DocumentsConfig{
		Issuer: i.url, JWKSMaxAge: time.Duration(cfg.JWKSMaxAge), DiscoveryMaxAge: time.Duration(cfg.DiscoveryMaxAge),
	})
	var p predecessor
	if before != nil {
		p = before
	}
	return &revision{cfg: cfg, docs: docs, source: s.newSource(&cfg, docs, p)}
}

// start runs r. Each revision has at most a few goroutines, which wait most of the
// time.
func (s *issuers) start(ctx context.Context, i *issuer, r *revision) {
	ctx, stop := context.WithCancel(ctx)
	r.stop = stop
	s.wg.Go(func() {
		defer stop()
		defer r.ended.Store(true)
		if err := r.run(ctx, func() bool { return s.published(i, r) }); err != nil {
			select {
			case s.failed <- err:
			default: // one is enough
			}
		}
	})
}

// published is called when r has something to publish. If r is the next revision
// of i, it becomes the current one, and the previous one is stopped. It reports
// whether r is the current revision.
func (s *issuers) published(i *issuer, r *revision) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.next.Load() != r {
		return i.current.Load() == r
	}
	previous := i.current.Load()
	i.current.Store(r)
	i.next.Store(nil)
	previous.stop()
	now := r.keyIDs()
	gone := slices.DeleteFunc(previous.keyIDs(), func(kid string) bool { return slices.Contains(now, kid) })
	if len(gone) > 0 {
		s.log.Warn("keys are not published any more since the configuration has changed: their tokens will be rejected",
			"issuer", i.url.String(), "kids", gone)
	}
	return true
}

// settle waits until every issuer has something to publish, or says why not, so
// that clients which connect during the start wait rather than get a 503. It waits
// for a single issuer as long as it takes to publish, and otherwise at most a
// second: a ring is published before it is open for writing.
func (s *issuers) settle(ctx context.Context) {
	all := s.all()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var waited time.Duration
	for _, i := range all {
		for r := i.current.Load(); !r.settled(); r = i.current.Load() {
			started := time.Now()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if len(all) > 1 || r.docs.Published() {
				waited += time.Since(started)
			}
			if waited > time.Second {
				return
			}
		}
	}
}

// stopTimeout is how long sources may take to end. One that hangs in a call of the
// kernel, as on a network file system, cannot be interrupted.
const stopTimeout = 5 * time.Second

// wait returns when all sources have ended, after their context is done, or does
// not wait for those that hang.
func (s *issuers) wait() {
	ended := make(chan struct{})
	go func() {
		s.wg.Wait()
		s.sockets.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-time.After(stopTimeout):
	}
	for _, i := range s.all() {
		for _, r := range []*revision{i.current.Load(), i.next.Load()} {
			if r != nil && !r.ended.Load() {
				s.log.Warn("not waiting for an issuer that hangs", "issuer", i.url.String(), "doing", r.doing())
			}
		}
	}
}
