package etcd_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// A cluster is the state that the members of a fake etcd share.
type cluster struct {
	password string // of every user; "" without authentication
	limit    int    // maximum size of a request, if not 0

	mu       sync.Mutex
	revision int64
	kvs      map[string]*mvccpb.KeyValue
	written  chan struct{} // closed by the next write
	token    int           // the valid one
	swaps    int           // transactions requested
	denied   bool          // all requests are
}

func newCluster() *cluster {
	return &cluster{revision: 1, kvs: map[string]*mvccpb.KeyValue{}, written: make(chan struct{})}
}

func (c *cluster) forgetTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token++
}

func (c *cluster) deny() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied = true
}

func (c *cluster) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.swaps
}

// put writes without a client.
func (c *cluster) put(key, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write(key, value)
}

// write is called with c.mu held.
func (c *cluster) write(key, value string) {
	c.revision++
	c.kvs[key] = &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: c.revision}
	close(c.written)
	c.written = make(chan struct{})
}

func (c *cluster) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: c.revision} }

// at is called with c.mu held.
func (c *cluster) at(key []byte) (revision int64) {
	if kv, ok := c.kvs[string(key)]; ok {
		revision = kv.ModRevision
	}
	return revision
}

// admit is called with c.mu held.
func (c *cluster) admit(ctx context.Context) error {
	if c.denied {
		return rpctypes.ErrGRPCPermissionDenied
	}
	if c.password == "" {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	switch got := md.Get(rpctypes.TokenFieldNameGRPC); {
	case len(got) == 0:
		return rpctypes.ErrGRPCUserEmpty
	case got[0] != fmt.Sprint("token", c.token):
		return rpctypes.ErrGRPCInvalidAuthToken
	}
	return nil
}

// A member serves its cluster.
type member struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedAuthServer
	*cluster
	addr    string
	server  *grpc.Server
	paused  atomic.Bool  // it accepts requests and never answers
	loads   atomic.Int32 // reads requested
	streams atomic.Int32 // open watches
	watches atomic.Int32 // watches requested
	// after is called after a transaction, and may replace its answer by an error.
	after atomic.Pointer[func(context.Context) error]
}

// start starts a member at addr, or at a free address for "".
func (c *cluster) start(t *testing.T, addr string, opts ...grpc.ServerOption) *member {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{cluster: c, addr: l.Addr().String(), server: grpc.NewServer(opts...)}
	pb.RegisterKVServer(m.server, m)
	pb.RegisterWatchServer(m.server, m)
	pb.RegisterAuthServer(m.server, m)
	go m.server.Serve(l)
	t.Cleanup(m.server.Stop)
	return m
}

func (m *member) pause(ctx context.Context) error {
	if m.paused.Load() {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (m *member) Range(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	m.loads.Add(1)
	if err := m.pause(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.admit(ctx); err != nil {
		return nil, err
	}
	if req.Serializable {
		return nil, fmt.Errorf("the read is not linearizable")
	}
	resp := &pb.RangeResponse{Header: m.header()}
	if kv, ok := m.kvs[string(req.Key)]; ok {
		resp.Kvs = append(resp.Kvs, kv)
	}
	return resp, nil
}

func (m *member) Txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := m.pause(ctx); err != nil {
		return nil, err
	}
	resp, err := m.txn(ctx, req)
	if after := m.after.Load(); after != nil {
		err = (*after)(ctx)
	}
	return resp, err
}

func (m *member) txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	put := req.Success[0].GetRequestPut()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.swaps++
	if err := m.admit(ctx); err != nil {
		return nil, err
	}
	if m.limit != 0 && req.Size() > m.limit {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	resp := &pb.TxnResponse{Header: m.header(), Succeeded: m.at(put.Key) == req.Compare[0].GetModRevision()}
	if resp.Succeeded {
		m.write(string(put.Key), string(put.Value))
	}
	return resp, nil
}

func (m *member) Authenticate(ctx context.Context, req *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	if err := m.pause(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.password {
	case "":
		return nil, rpctypes.ErrGRPCAuthNotEnabled
	case req.Password:
		return &pb.AuthenticateResponse{Header: m.header(), Token: fmt.Sprint("token", m.token)}, nil
	}
	return nil, rpctypes.ErrGRPCAuthFailed
}

func (m *member) Watch(stream pb.Watch_WatchServer) error {
	ctx := stream.Context()
	m.watches.Add(1)
	m.streams.Add(1)
	defer m.streams.Add(-1)
	req, err := stream.Recv()
	if err == nil {
		err = m.pause(ctx)
	}
	if err != nil {
		return err
	}
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get(rpctypes.MetadataRequireLeaderKey)) == 0 {
		return fmt.Errorf("the watch does not require a leader")
	}
	for resp := new(pb.WatchResponse); ; resp = new(pb.WatchResponse) {
		m.mu.Lock()
		if resp.Header = m.header(); m.admit(ctx) != nil {
			resp.Canceled, resp.CancelReason = true, "etcdserver: permission denied"
		}
		written, kv := m.written, m.kvs[string(req.GetCreateRequest().GetKey())]
		m.mu.Unlock()
		if kv != nil {
			resp.Events = []*mvccpb.Event{{Kv: kv}}
		}
		if err := stream.Send(resp); err != nil || resp.Canceled {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-written:
		}
		if err := m.pause(ctx); err != nil {
			return err
		}
	}
}
