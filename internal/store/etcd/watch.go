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
		// If nobody loads, the best member may not be the best any more.
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

// watch is one stream. It speaks etcd's API itself: clientv3's watcher resumes
// by itself at the revision that it knew. It does not tell of that, and hears
// nothing while a cluster that was restored from an older backup is still
// below that revision. Why the stream ended is of no interest: whoever loads
// meanwhile gets the reason.
func (m *member) watch(ctx context.Context, changed func()) {
	c, err := m.connect(ctx)
	if err != nil {
		return
	}
	// A member without a leader ends the stream, instead of keeping it idle.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	// A paused member takes the stream and never answers.
	late := time.AfterFunc(attemptTimeout, cancel)
	defer late.Stop()
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx, grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32))
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
		changed() // the first response says that the watch was created
	}
}
