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

var errClosed = errors.New("the store is closed")

// A member is one member of the cluster, with its own connection.
type member struct {
	endpoint string
	key      string
	cfg      clientv3.Config

	// turn guards the fields below. Unlike a mutex, it can be waited for with a
	// context: creating a client can take a while.
	turn   chan struct{}
	client *clientv3.Client // nil until needed, and after the member stopped answering
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

		// Keep-alives end a watch on a dead connection. etcd treats more than
		// one ping in 5s as an attack.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,

		// etcd decides what is too large.
		MaxCallSendMsgSize: 64 << 20,

		// The client would also retry writes that may have succeeded, such as
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

// keepReason keeps what gRPC says about a call that ran out of time, such as why
// there was no connection. The client would replace it by a bare context error.
func keepReason(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if st := status.Convert(err); st.Code() == codes.DeadlineExceeded {
		return status.Error(codes.Unavailable, st.Message())
	}
	return err
}

// connect returns the client, and creates it if needed. With a password, this
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
	case !stop(): // ctx has ended, and life with it
		c.Close()
		err = ctx.Err()
	default:
		m.client = c
	}
	return m.client, err
}

// drop closes c, unless another client has replaced it.
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

// An answer is the response of a member, or err.
type answer struct {
	member   *member
	client   *clientv3.Client
	data     []byte
	revision int64 // 0 if the key does not exist
	err      error
}

func (a *answer) version() rotation.Version {
	if a.revision == 0 {
		return ""
	}
	return rotation.Version(strconv.FormatInt(a.revision, 10))
}

// ask waits for delay, and then asks the member until it answers, ctx ends, or an
// error is not transient.
func (m *member) ask(ctx context.Context, delay time.Duration) *answer {
	began := time.Now().Add(delay)
	last := &answer{member: m, err: context.DeadlineExceeded}
	var c *clientv3.Client
	for pause := delay; wait(ctx, pause); pause = minPause {
		asked := time.Now()
		a := m.get(ctx)
		if a.err == nil {
			return a
		}
		// A connection that loses all data would look healthy for another ten
		// seconds, and a watch would wait on it.
		if time.Since(asked) >= attemptTimeout && a.connected() {
			m.drop(a.client)
		}
		if alert := m.alert(ctx, a.err); alert != nil {
			a.err = alert
		}
		if saysLittle(last.err) || !saysLittle(a.err) {
			last = a
		}
		if !transient(a.err) {
			return last
		}
		c = a.client
	}
	if time.Since(began) > patience { // ctx ended while the member was silent
		m.drop(c)
	}
	return last
}

func (a *answer) connected() bool {
	return a.client != nil && a.client.ActiveConnection().GetState() == connectivity.Ready
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return ctx.Err() == nil
}

// get asks once. The read is linearizable, which is the default: the member
// proves with a quorum that it has not missed a write. A replica signs only on
// fresh knowledge, and the answer of a member that is cut off from the others
// would look fresh however old it is.
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
		a.err = rpctypes.ErrInvalidAuthToken // authentication was enabled meanwhile
	}
	return a
}
