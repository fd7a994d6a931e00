package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"oidc-provider/internal/clock"
	"oidc-provider/internal/config"
	"oidc-provider/internal/signer"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
	"oidc-provider/web"
)

// managedConfig is what a managed source needs.
type managedConfig struct {
	Issuer    *config.Issuer
	Documents *web.Documents
	Sockets   *signer.Sockets

	// Predecessor is nil if nothing is published for the issuer yet.
	Predecessor predecessor

	// FailFast returns errors, other than that the store is unavailable, instead
	// of retrying: the operator is watching.
	FailFast bool

	// TrustClock says that an operator vouches for the clock of this machine.
	TrustClock bool

	// Opened is called with the ring, and whether its keys were just created. May
	// be nil.
	Opened func(ring *rotation.Ring, created bool)

	Log *slog.Logger
}

// A managed source keeps a ring going, and signs with it.
type managed struct {
	managedConfig
	cfg    *config.Managed
	issuer string

	clock *clock.Evidence

	// These belong to the goroutine that runs, and are nil until they are open.
	handle *store.Handle
	socket *signer.Socket
	doubts []rotation.Seen // of witnesses that show keys which the ring lacked at the start

	rotator atomic.Pointer[rotation.Rotator] // nil until the ring was read
	waiting atomic.Pointer[error]            // why it was not; nil if it was
	current atomic.Pointer[step]             // nil while the ring is kept going

	witnessed atomic.Pointer[[]rotation.Seen] // at the start
}

// A step is something that may take long, or hang, before the ring is read.
type step struct {
	what  string
	since time.Time
}

// longStep is how long a step may take before it is reported.
const longStep = 2 * time.Second

func (m *managed) begin(format string, args ...any) {
	m.current.Store(&step{fmt.Sprintf(format, args...), time.Now()})
}

// nonEmpty lists the names that are not empty.
func nonEmpty(names ...string) string {
	return strings.Join(slices.DeleteFunc(names, func(name string) bool { return name == "" }), ", ")
}

// doing implements [source].
func (m *managed) doing() string {
	s := m.current.Load()
	if s == nil || time.Since(s.since) < longStep {
		return ""
	}
	return fmt.Sprintf("%s since %s", s.what, s.since.UTC().Format(time.RFC3339))
}

// readTimeout limits the first reading of a ring.
const readTimeout = 10 * time.Second

func newManaged(c managedConfig) *managed {
	return &managed{managedConfig: c, cfg: c.Issuer.Managed, issuer: c.Issuer.Issuer, clock: clock.New()}
}

// Times between two attempts to open a ring: retryOpen while its store is
// unavailable, and up to maxRetryOpen while something else is wrong with it.
const (
	retryOpen    = 500 * time.Millisecond
	maxRetryOpen = 15 * time.Second
)

// run implements [source]. The socket comes before the ring: if it is in use, no
// key should change.
func (m *managed) run(ctx context.Context, published func() bool) error {
	defer m.close()
	wait := retryOpen
	for {
		err := m.work(ctx, published)
		switch {
		case ctx.Err() != nil:
			return nil // the error may only say that it was interrupted
		case errors.Is(err, rotation.ErrUnavailable):
			wait = retryOpen
		case m.FailFast:
			return err
		default:
			wait = min(2*wait, maxRetryOpen)
		}
		if previous := m.waiting.Swap(&err); previous == nil || (*previous).Error() != err.Error() {
			if errors.Is(err, rotation.ErrUnavailable) {
				m.Log.Error("waiting for the store or the KMS plugin", "err", err)
			} else {
				m.Log.Error("the ring cannot be used; trying again", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// work opens the socket and the ring, and keeps the ring going until ctx is done
// or the socket breaks.
func (m *managed) work(ctx context.Context, published func() bool) error {
	defer m.current.Store(nil)
	if m.socket == nil && m.cfg.SignerSocket != "" {
		var err error
		m.begin("opening the socket %s", m.cfg.SignerSocket)
		if m.socket, err = m.Sockets.Acquire(ctx, m.cfg.SignerSocket, m.issuer, m.cfg.SignerAccess()); err != nil {
			return err
		}
	}
	rotator, err := m.openRing(ctx)
	if err != nil {
		if m.handle != nil && !errors.Is(err, rotation.ErrUnavailable) {
			m.handle.Close() // the files that it was opened with may be repaired
			m.handle = nil
		}
		return err
	}
	m.current.Store(nil)
	m.rotator.Store(rotator)
	m.waiting.Store(nil)
	if !published() { // the next key must be published before it signs
		<-ctx.Done() // another revision has replaced this one
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go m.compareClock(ctx)
	if m.socket == nil {
		rotator.Run(ctx)
		return nil
	}
	if err := m.socket.Use(ctx, m.cfg.SignerAccess(), rotator, time.Duration(m.cfg.RefreshHint)); err != nil {
		m.Log.Error("the access to the signer socket stays as it was", "err", err)
	}
	defer context.AfterFunc(m.socket.Context(), stop)()
	rotator.Run(ctx)
	if broken := context.Cause(m.socket.Context()); broken != nil {
		m.Sockets.Release(m.socket)
		m.socket = nil
		return broken
	}
	return nil
}

func (m *managed) close() {
	m.Sockets.Release(m.socket)
	if m.handle != nil {
		m.handle.Close()
	}
}

// legacy implements [source].
func (m *managed) legacy() legacy {
	rotator := m.rotator.Load()
	if rotator == nil {
		return legacy{}
	}
	seen := rotator.View().Ring().Seen()
	seen.By = "this process"
	return legacy{ring: &seen, store: m.cfg.Store}
}

// settled implements [source].
func (m *managed) settled() bool { return m.rotator.Load() != nil || m.waiting.Load() != nil }

// collect implements [source].
func (m *managed) collect(to sample, now time.Time) {
	rotator := m.rotator.Load()
	if rotator != nil {
		collectRotator(to, rotator, now)
		to.gauge(unknownDesc, float64(m.unknownKeys(rotator.View().Ring())))
	}
	to.gauge(refusedDesc, boolean(m.refused(rotator)))
}

// unknownKeys counts the keys that witnesses showed at the start and ring lacks.
func (m *managed) unknownKeys(ring *rotation.Ring) int {
	unknown := map[string]bool{}
	for _, s := range *m.witnessed.Load() {
		for _, kid := range s.KeyIDs {
			if !ring.Knows(kid) {
				unknown[kid] = true
			}
		}
	}
	return len(unknown)
}

// refused reports whether the ring in the store is not used: it cannot be read, no one
// whom this server trusts has written it, or it is an old one.
func (m *managed) refused(rotator *rotation.Rotator) bool {
	var err error
	if reason := m.waiting.Load(); rotator != nil {
		err = rotator.Failure()
	} else if reason != nil {
		err = *reason
	}
	var untrusted *rotation.UntrustedError
	var past *rotation.PastError
	var other *rotation.RefusedError
	return errors.As(err, &untrusted) || errors.As(err, &past) || errors.As(err, &other)
}
