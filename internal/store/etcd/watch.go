package etcd

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

const (
	minPause = 50 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// Watch implements [rotation.Watcher].
func (s *Store) Watch(ctx context.Context, changed func()) {
	pause, failed := minPause, 0
	for ctx.Err() == nil {
		began := time.Now()
		// Without loads, best may name a member that no longer answers.
		m := s.members[(int(s.best.Load())+failed)%len(s.members)]
		failed++
		m.watch(ctx, func() { failed = 0; changed() })
		if time.Since(began) > 2*attemptTimeout {
			pause = minPause
		}
		wait(ctx, pause/2+rand.N(pause/2))
		pause = min(2*pause, maxPause)
	}
}

// watch opens one stream and returns when it ends. It uses etcd's API directly:
// clientv3's watcher silently resumes at the last revision that it has seen, and
// reports nothing while a cluster that was restored from an older backup is below
// that revision. The reason of the end is not reported: Load returns it.
func (m *member) watch(ctx context.Context, changed func()) {
	c, err := m.connect(ctx)
	if err != nil {
		return
	}
	// A member without a leader then ends the stream instead of keeping it idle.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	// A paused member accepts the stream and never answers.
	late := time.AfterFunc(attemptTimeout, cancel)
	defer late.Stop()
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx,
		grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return
	}
	create := &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(m.key)}}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: create}); err != nil {
		return
	}
	for {
		resp, err := stream.Recv()
		if err != nil || resp.Canceled {
			return
		}
		late.Stop()
		changed() // the first response confirms that the watch was created
	}
}
