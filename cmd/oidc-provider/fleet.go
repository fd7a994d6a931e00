package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"oidc-provider/discovery"
	"oidc-provider/internal/config"
	"oidc-provider/internal/mirror"
	"oidc-provider/internal/signer"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// A source is where the keys of an issuer come from.
type source interface {
	// run keeps the documents of the issuer up to date until ctx is done. It
	// calls shown when there are some, and maybe again, and hears whether they
	// are what is shown now. An error says that it can never work.
	run(ctx context.Context, shown func() bool) error
	// settled reports whether there are documents, or it is known why not.
	settled() bool
	// checks are for /readyz. They decide whether the issuer can be served.
	checks() []web.Check
}

// A fleet is all issuers of a process. Each has its own goroutines and shares
// nothing with the others that could make one wait for another.
type fleet struct {
	log      *slog.Logger
	site     *web.Site
	sockets  *signer.Sockets
	stateDir string

	// once is for one issuer that somebody has just typed: what is wrong with
	// it ends the process. opened is told of its ring.
	once   bool
	opened func(ring *rotation.Ring, made bool)

	ctx    context.Context // of all sources
	failed func(error)     // told of what ends the process
	wg     sync.WaitGroup

	mu      sync.Mutex
	issuers map[string]*issuer
	order   atomic.Pointer[[]*issuer] // as configured, for readers without the lock
}

// An issuer is what is served under one URL.
type issuer struct {
	url  discovery.Issuer
	slot *web.Slot

	// current is what is shown. next is to take its place as soon as it has
	// something to show; until then it is nil or has not come so far.
	current, next atomic.Pointer[keeper]
}

// A keeper is an issuer under one configuration.
type keeper struct {
	cfg  config.Issuer
	docs *web.Documents
	source
	stop context.CancelFunc
}

// apply makes issuers those that are served, each with its configuration. What
// has not changed is left alone. What has changed goes on as it was until there
// is something to show under the new configuration.
func (f *fleet) apply(issuers []config.Issuer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := make(map[string]*issuer, len(issuers))
	order := make([]*issuer, 0, len(issuers))
	var added, changed, removed int
	for _, cfg := range issuers {
		i := f.issuers[cfg.Issuer]
		switch {
		case i == nil:
			i = f.newIssuer(cfg)
			added++
		case f.change(i, cfg):
			changed++
		}
		wanted[cfg.Issuer] = i
		order = append(order, i)
	}
	before := f.issuers
	f.issuers = wanted
	f.order.Store(&order)
	slots := make([]*web.Slot, len(order))
	for n, i := range order {
		slots[n] = i.slot
	}
	f.site.Set(slots)
	for url, i := range before {
		if wanted[url] == nil {
			f.log.Info("an issuer is not served any more", "issuer", url)
			i.current.Load().stop()
			if next := i.next.Load(); next != nil {
				next.stop()
			}
			removed++
		}
	}
	if before != nil {
		f.log.Info("the configuration is in force", "issuers", len(order), "added", added, "changed", changed, "removed", removed)
	}
	// New sources start last: nothing above waits for them.
	for _, i := range order {
		for _, k := range []*keeper{i.current.Load(), i.next.Load()} {
			if k != nil && k.stop == nil {
				f.start(i, k)
			}
		}
	}
}

func (f *fleet) newIssuer(cfg config.Issuer) *issuer {
	i := new(issuer)
	i.url, _ = discovery.ParseIssuer(cfg.Issuer) // config has checked it
	k := f.newKeeper(i, cfg, nil)
	i.slot = web.NewSlot(k.docs)
	i.current.Store(k)
	return i
}

// change makes cfg what i is to become, and reports whether it was not already.
func (f *fleet) change(i *issuer, cfg config.Issuer) bool {
	current, next := i.current.Load(), i.next.Load()
	switch {
	case next != nil && reflect.DeepEqual(next.cfg, cfg), next == nil && reflect.DeepEqual(current.cfg, cfg):
		return false
	case next == nil && onlyMaxAge(current.cfg, cfg):
		current.cfg = cfg
		if err := current.docs.SetMaxAge(time.Duration(cfg.JWKSMaxAge), time.Duration(cfg.DiscoveryMaxAge)); err != nil {
			f.log.Error("max-age cannot be changed", "issuer", cfg.Issuer, "err", err)
		}
		return true
	case reflect.DeepEqual(current.cfg, cfg) && !bringsPolicy(next.cfg, cfg): // it went back to what it was
		i.next.Store(nil)
	case !current.docs.Published(): // there is nothing to go on with
		k := f.newKeeper(i, cfg, nil)
		i.slot.Show(k.docs)
		i.current.Store(k)
		i.next.Store(nil)
		current.stop()
	default:
		i.next.Store(f.newKeeper(i, cfg, current))
	}
	if next != nil {
		next.stop()
	}
	return true
}

// bringsPolicy reports whether a may have changed the policy of the ring of b.
func bringsPolicy(a, b config.Issuer) bool {
	return a.Managed != nil && b.Managed != nil && a.Managed.Policy != b.Managed.Policy
}

// onlyMaxAge reports whether a and b differ in nothing that needs another
// source.
func onlyMaxAge(a, b config.Issuer) bool {
	a.JWKSMaxAge, a.DiscoveryMaxAge = b.JWKSMaxAge, b.DiscoveryMaxAge
	return reflect.DeepEqual(a, b)
}

// newKeeper is what keeps i under cfg; before is what shows i until then, if
// anything does.
func (f *fleet) newKeeper(i *issuer, cfg config.Issuer, before *keeper) *keeper {
	k := &keeper{cfg: cfg, docs: web.NewDocuments(web.DocumentsConfig{
		Issuer: i.url, JWKSMaxAge: time.Duration(cfg.JWKSMaxAge), DiscoveryMaxAge: time.Duration(cfg.DiscoveryMaxAge),
	})}
	if cfg.Managed != nil {
		log := f.log
		if !f.once {
			log = log.With("issuer", cfg.Issuer)
		}
		m := &managed{
			cfg: cfg.Managed, issuer: i.url, docs: k.docs, sockets: f.sockets, log: log, once: f.once, opened: f.opened,
			maxAge: max(time.Duration(cfg.JWKSMaxAge), time.Duration(cfg.DiscoveryMaxAge)),
		}
		if before != nil {
			m.shows = before.docs.KeyIDs
			if other, ok := before.source.(*managed); ok && other.cfg.Store == cfg.Managed.Store {
				m.after = other
			}
		}
		k.source = m
		return k
	}
	var err error
	if k.source, err = newMirrored(&cfg, k.docs, f.stateDir, before, f.log); err != nil {
		f.log.Error("an issuer cannot be served", "issuer", cfg.Issuer, "err", err)
		k.source = broken{err}
	}
	return k
}

// A broken source is one that cannot be made of its configuration.
type broken struct{ error }

func (broken) run(ctx context.Context, _ func() bool) error { <-ctx.Done(); return nil }
func (broken) settled() bool                                { return true }
func (b broken) checks() []web.Check {
	return []web.Check{{Name: "keys", Run: func() (string, error) { return "", b.error }}}
}

// start runs k. Each has at most a few goroutines, which wait most of the time.
func (f *fleet) start(i *issuer, k *keeper) {
	ctx, stop := context.WithCancel(f.ctx)
	k.stop = stop
	f.wg.Go(func() {
		defer stop()
		if err := k.run(ctx, func() bool { return f.shown(i, k) }); err != nil {
			f.failed(err)
		}
	})
}

// shown makes k what i shows, if it is to be, and ends what it takes the place
// of. It is false if k is not wanted any more.
func (f *fleet) shown(i *issuer, k *keeper) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i.next.Load() != k {
		return i.current.Load() == k
	}
	before := i.current.Load()
	i.slot.Show(k.docs)
	i.current.Store(k)
	i.next.Store(nil)
	before.stop()
	now := k.docs.KeyIDs()
	gone := slices.DeleteFunc(before.docs.KeyIDs(), func(kid string) bool { return slices.Contains(now, kid) })
	if len(gone) > 0 {
		f.log.Warn("keys are not published any more since the configuration has changed: tokens by them will be rejected", "issuer", i.url.String(), "kids", gone)
	}
	return true
}

// settle waits until every issuer has something to show, or says why not: who
// asks while a server starts waits, rather than hears that there is nothing. A
// single issuer is waited for; of many, none waits for others for long.
func (f *fleet) settle(ctx context.Context) {
	all := *f.order.Load()
	if len(all) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for _, i := range all {
		for !i.current.Load().settled() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// wait returns when all sources have ended, after ctx is done.
func (f *fleet) wait() {
	f.wg.Wait()
	f.sockets.Wait()
}

// listed is how many issuers /readyz?verbose names one by one; of more, those
// that are not well.
const listed = 100

// checks are those of one issuer, or, for url "", of all under the policy
// readiness, any or all.
func (f *fleet) checks(url, readiness string) []web.Check {
	all := *f.order.Load()
	if url != "" {
		n := slices.IndexFunc(all, func(i *issuer) bool { return i.url.String() == url })
		if n < 0 {
			return []web.Check{{Name: "issuer", Run: func() (string, error) {
				return "", fmt.Errorf("%q is not served here (hint: it is compared byte for byte)", url)
			}}}
		}
		all = all[n : n+1]
	}
	if len(all) == 1 {
		return all[0].checks("")
	}
	var checks []web.Check
	ready, hidden := 0, 0
	for _, i := range all {
		served, fine := true, true
		own := i.checks(" " + i.url.String())
		for n, check := range own {
			detail, err := check.Run()
			served = served && (err == nil || check.Advisory)
			fine = fine && err == nil
			own[n].Advisory = true // what all together mean is said below
			own[n].Run = func() (string, error) { return detail, err }
		}
		if served {
			ready++
		}
		switch {
		case fine && len(all) > listed:
		case len(checks) < 3*listed:
			checks = append(checks, own...)
		default:
			hidden++
		}
	}
	return append(checks, web.Check{Name: "issuers", Run: func() (string, error) {
		said := fmt.Sprintf("%d of %d can be served, and %q must", ready, len(all), readiness)
		if hidden > 0 {
			said += fmt.Sprintf("; %d that are not well are not listed", hidden)
		}
		if ready == 0 || ready < len(all) && readiness == "all" {
			return "", errors.New(said)
		}
		return said, nil
	}})
}

// checks are those of what is shown, and whether something else should be.
// Names end in suffix.
func (i *issuer) checks(suffix string) []web.Check {
	checks := i.current.Load().checks()
	if next := i.next.Load(); next != nil {
		for _, check := range next.checks() {
			if check.Advisory {
				continue
			}
			checks = append(checks, web.Check{Name: "change", Advisory: true, Run: func() (string, error) {
				said, err := check.Run()
				return said, fmt.Errorf("the old configuration goes on, since the new one has nothing to show: %w", err)
			}})
		}
	}
	for n := range checks {
		checks[n].Name += suffix
	}
	return checks
}

// metrics are those of all issuers, and how many there are of each kind.
func (f *fleet) metrics() []prometheus.Collector {
	return []prometheus.Collector{
		web.Issuers{
			Rotators: each(f, func(k *keeper) (*rotation.Rotator, bool) {
				m, ok := k.source.(*managed)
				if !ok {
					return nil, false
				}
				r := m.rotator.Load()
				return r, r != nil
			}),
			Mirrors: each(f, func(k *keeper) (mirror.Status, bool) {
				m, ok := k.source.(*mirrored)
				if !ok {
					return mirror.Status{}, false
				}
				return m.Status(), true
			}),
		},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "oidc_provider_issuers",
			Help: "Issuers that are configured.",
		}, func() float64 { return float64(len(*f.order.Load())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "oidc_provider_waiting",
			Help: "Issuers that have had nothing to show since the start: their other metrics are not there yet.",
		}, func() (n float64) {
			for _, i := range *f.order.Load() {
				if !i.current.Load().docs.Published() {
					n++
				}
			}
			return n
		}),
	}
}

func each[T any](f *fleet, of func(*keeper) (T, bool)) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for _, i := range *f.order.Load() {
			if v, ok := of(i.current.Load()); ok && !yield(i.url.String(), v) {
				return
			}
		}
	}
}
