package web

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits bound what all clients of one address cost together. When a limit is
// reached, a new connection is accepted nevertheless, and the one that has been
// idle or slow for the longest is closed instead: a flood pushes itself out, and
// clients that send requests are served.
type Limits struct {
	// Connections is how many connections may be open at a time. A quarter of
	// them, and at most 256, may be in the middle of a request, which takes no
	// time unless the client is slow. Required.
	Connections int

	// ConnectionsPerAddress is how many of them one client address may have.
	// Default 0, which is no further limit. The addresses of an IPv6
	// network of 64 bits, which a single machine usually has, count as one.
	ConnectionsPerAddress int
}

const (
	// idleTimeout is how long a connection may be idle. It is a little longer than
	// with most load balancers, 60s, so that these close idle connections, and
	// never use one that is being closed. It is crowdedIdle while more than half
	// of the connections are in use.
	idleTimeout = 65 * time.Second
	crowdedIdle = 5 * time.Second

	// activeTimeout is how long a request may take, from its first byte to the
	// last one of its answer.
	activeTimeout = readTimeout + writeTimeout

	// activeShare is the part of the connections that may be active, one of so
	// many, and maxActive how many of them. An active one can cost several times
	// as much as an idle one.
	activeShare = 4
	maxActive   = 256

	// closeWait is how long a closed connection may take to return what it holds
	// before the next one is closed.
	closeWait = 100 * time.Millisecond

	// warnEvery is the least time between two warnings that a limit is reached.
	warnEvery = time.Minute
)

// The limits, as the label limit and the log name them.
const (
	limitConnections = "connections"
	limitAddress     = "connections_per_address"
	limitActive      = "active"
)

// A limiter is a listener that keeps to limits. The server that uses it must call
// observe.
type limiter struct {
	net.Listener
	limits Limits
	closed *prometheus.CounterVec
	log    *slog.Logger

	released chan struct{} // has an element after a connection was released

	mu     sync.Mutex // guards all below, and the fields of the connections
	order  list.List  // of *limitedConn; the one whose state has not changed for the longest is first
	open   map[netip.Prefix]int
	total  int // connections that are not released; those that were closed here are not in order
	active int // connections in order that are active
	warned time.Time
}

// A limitedConn is a connection that counts until it is closed by its user.
type limitedConn struct {
	net.Conn
	limiter *limiter
	source  netip.Prefix
	release sync.Once

	entry   *list.Element // nil once it is closed
	changed time.Time     // when its state changed last
	active  bool          // whether a request has begun and is not answered
}

func newLimiter(cfg ServeConfig) *limiter {
	l := &limiter{Listener: cfg.Listener, limits: cfg.Limits, log: cfg.Log, released: make(chan struct{}, 1),
		open: make(map[netip.Prefix]int)}
	l.closed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "oidc_provider_connections_closed_total",
		Help: "Connections that were closed to keep to a limit, by limit.",
	}, []string{"limit"})
	for _, limit := range []string{limitConnections, limitAddress, limitActive} {
		l.closed.WithLabelValues(limit)
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(l.closed)
	}
	return l
}

// Accept implements [net.Listener]. It makes room for the connection first.
func (l *limiter) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitedConn{Conn: conn, limiter: l, source: source(conn.RemoteAddr())}
	for !l.admit(c) {
		select {
		case <-l.released:
		case <-time.After(closeWait):
		}
	}
	return c, nil
}

// admit counts c, or closes another connection if a limit is reached.
func (l *limiter) admit(c *limitedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.limits.ConnectionsPerAddress > 0 && l.open[c.source] >= l.limits.ConnectionsPerAddress:
		l.closeOldest(limitAddress, func(other *limitedConn) bool { return other.source == c.source })
		return false
	case l.total >= l.limits.Connections:
		l.closeOldest(limitConnections, func(*limitedConn) bool { return true })
		return false
	}
	l.total++
	l.open[c.source]++
	c.changed, c.entry = time.Now(), l.order.PushBack(c)
	return true
}

// expire closes connections that have been idle or active for too long, until ctx
// is done. The timeouts of [http.Server] do that for those that are new, but its
// HTTP/2 keeps the memory of a connection that is closed during a request for as
// long as its own timeout for idle ones.
func (l *limiter) expire(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			l.closeExpired(now)
		}
	}
}

func (l *limiter) closeExpired(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	idle := idleTimeout
	if l.total > l.limits.Connections/2 {
		idle = crowdedIdle
	}
	var next *list.Element
	for e := l.order.Front(); e != nil; e = next {
		next = e.Next()
		c := e.Value.(*limitedConn)
		age, timeout := now.Sub(c.changed), idle
		if c.active {
			timeout = activeTimeout
		}
		switch {
		case age < min(idle, activeTimeout):
			return // the others are younger
		case age >= timeout:
			l.close(c)
		}
	}
}

// closeOldest closes the connection that has been in its state for the longest,
// among those that match.
func (l *limiter) closeOldest(reached string, match func(*limitedConn) bool) {
	if now := time.Now(); now.Sub(l.warned) >= warnEvery {
		l.warned = now
		l.log.Warn("a limit is reached: connections that are idle or slow are closed", "listen", l.Addr().String(),
			"limit", reached, "open", l.total)
	}
	for e := l.order.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*limitedConn); match(c) {
			l.closed.WithLabelValues(reached).Inc()
			if tcp, ok := c.Conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // what its client has not read is dropped, too
			}
			l.close(c)
			return
		}
	}
}

// close closes the socket of c. Its user notices, and then calls Close.
func (l *limiter) close(c *limitedConn) {
	l.forget(c)
	c.Conn.Close()
}

// forget removes c from those that can be closed.
func (l *limiter) forget(c *limitedConn) {
	l.setActive(c, false)
	l.order.Remove(c.entry)
	c.entry = nil
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.release.Do(func() {
		l := c.limiter
		l.mu.Lock()
		defer l.mu.Unlock()
		if c.entry != nil {
			l.forget(c)
		}
		l.total--
		if l.open[c.source]--; l.open[c.source] == 0 {
			delete(l.open, c.source)
		}
		select {
		case l.released <- struct{}{}:
		default:
		}
	})
	return err
}

// CloseWrite lets the server say why it closes a connection before it does.
func (c *limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}

// observe is a hook of [http.Server]. A connection with HTTP/2 is active as long as
// it has a request.
func (l *limiter) observe(conn net.Conn, state http.ConnState) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, ok := conn.(*limitedConn)
	if !ok || state != http.StateActive && state != http.StateIdle {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.entry == nil {
		return
	}
	l.setActive(c, state == http.StateActive)
	c.changed = time.Now()
	l.order.MoveToBack(c.entry)
	if l.active > min(max(l.limits.Connections/activeShare, 2), maxActive) {
		l.closeOldest(limitActive, func(c *limitedConn) bool { return c.active })
	}
}

func (l *limiter) setActive(c *limitedConn, active bool) {
	if active && !c.active {
		l.active++
	} else if c.active && !active {
		l.active--
	}
	c.active = active
}

// source returns what counts as one address.
func source(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits) // fails for an invalid address only
	return prefix
}
