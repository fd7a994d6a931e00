package etcd

import (
	"context"
	"errors"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"oidc-provider/rotation"
)

var errClosed = errors.New("the store was closed before (hint: this is a bug)")

// A member of the cluster, with a connection of its own.
type member struct {
	endpoint string
	key      string
	cfg      clientv3.Config

	// turn is held by whoever uses the fields below. Unlike a mutex it can
	// be waited for with a context: making a client can take a while.
	turn   chan struct{}
	client *clientv3.Client // nil until it is needed, and after silence
	closed bool
}

func newMember(cfg Config, endpoint string) *member {
	return &member{endpoint: endpoint, key: cfg.Key, turn: make(chan struct{}, 1), cfg: clientv3.Config{
		Endpoints:   []string{endpoint},
		TLS:         cfg.TLS,
		Username:    cfg.Username,
		Password:    cfg.Password,
		DialTimeout: attemptTimeout,
		Logger:      zap.NewNop(),

		// A watch hears of a dead connection by this. etcd takes more than a
		// ping in 5s for an attack.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,

		// How large is too large, etcd decides.
		MaxCallSendMsgSize: 64 << 20,

		// The client would also repeat writes that may have been done, like
		// those that a member answers with DeadlineExceeded.
		MaxUnaryRetries: 1,

		DialOptions: []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(keepReason),
			// By default the time between two attempts grows to minutes.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{
					BaseDelay:  50 * time.Millisecond,
					Multiplier: 1.6,
					Jitter:     0.2,
					MaxDelay:   300 * time.Millisecond,
				},
				MinConnectTimeout: attemptTimeout,
			}),
		},
	}}
}

// keepReason keeps what gRPC says about a call that ran out of time, like why
// there is no connection. The client would make a bare context error of it.
func keepReason(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if st := status.Convert(err); st.Code() == codes.DeadlineExceeded {
		return status.Error(codes.Unavailable, st.Message())
	}
	return err
}

// connect returns the client, made now if there is none. With a password that
// takes a round trip, and at most attemptTimeout.
func (m *member) connect(ctx context.Context) (*clientv3.Client, error) {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if m.closed {
		return nil, errClosed
	}
	if m.client != nil {
		return m.client, nil
	}
	life, end := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, end)
	cfg := m.cfg
	cfg.Context = life
	c, err := clientv3.New(cfg)
	switch {
	case err != nil:
		end()
	case !stop(): // it has no life left
		c.Close()
		err = ctx.Err()
	default:
		m.client = c
	}
	return m.client, err
}

// drop closes c, unless another has taken its place.
func (m *member) drop(c *clientv3.Client) {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	if c != nil && c == m.client {
		m.client = nil
		c.Close()
	}
}

func (m *member) close() error {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	m.closed = true
	if m.client == nil {
		return nil
	}
	c := m.client
	m.client = nil
	return c.Close()
}

// An answer is what a member said, or err.
type answer struct {
	member   *member
	client   *clientv3.Client
	data     []byte
	revision int64 // 0 if there is no such key
	err      error
}

func (a *answer) version() rotation.Version {
	if a.revision == 0 {
		return ""
	}
	return rotation.Version(strconv.FormatInt(a.revision, 10))
}

// ask asks the member after a while, again and again until it answers or
// there is no hope, or no time.
func (m *member) ask(ctx context.Context, after time.Duration) *answer {
	began := time.Now().Add(after)
	last := &answer{member: m, err: context.DeadlineExceeded}
	var c *clientv3.Client
	for pause := after; wait(ctx, pause); pause = minPause {
		asked := time.Now()
		a := m.get(ctx)
		if a.err == nil {
			return a
		}
		// A connection that swallows everything would look good for another
		// ten seconds, and a watch would wait on it.
		if time.Since(asked) >= attemptTimeout && a.client != nil && a.client.ActiveConnection().GetState() == connectivity.Ready {
			m.drop(a.client)
		}
		if alert := m.alert(ctx, a.err); alert != nil {
			a.err = alert
		}
		if saysLittle(last.err) || !saysLittle(a.err) {
			last = a
		}
		if !passes(a.err) {
			return last
		}
		c = a.client
	}
	if time.Since(began) > patience { // that was cut short
		m.drop(c)
	}
	return last
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return ctx.Err() == nil
}

// get asks once. The read is linearizable, the default: the member proves with
// a quorum that it has not missed a write. A replica signs only on fresh
// knowledge, and what a member says that is split from the others would look
// fresh however old it is.
func (m *member) get(ctx context.Context) *answer {
	a := &answer{member: m}
	if a.client, a.err = m.connect(ctx); a.err != nil {
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	var resp *clientv3.GetResponse
	if resp, a.err = a.client.Get(ctx, m.key); a.err == nil && len(resp.Kvs) > 0 {
		a.data, a.revision = resp.Kvs[0].Value, resp.Kvs[0].ModRevision
	}
	if errors.Is(a.err, rpctypes.ErrUserEmpty) && m.cfg.Username != "" {
		a.err = rpctypes.ErrInvalidAuthToken // authentication was switched on since
	}
	return a
}
