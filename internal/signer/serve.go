package signer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// drainTimeout is how long running calls may take after the shutdown starts.
const drainTimeout = 5 * time.Second

// streamWorkers is the number of goroutines that are reused: a new one for each
// call would have to grow its stack for the signature first. More calls at the
// same time still get one each.
const streamWorkers = 4

// maxRequest is far more than any claims that fit into an HTTP header.
const maxRequest = 1 << 20

// Serve answers on l until ctx is done, finishes the running calls, and closes l.
// Counts and latencies of calls go to metrics. They continue from the values that
// an earlier server has left there.
func (s *Server) Serve(ctx context.Context, l net.Listener, metrics prometheus.Registerer) error {
	defer l.Close()
	counts := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(
		grpcprom.WithHistogramBuckets([]float64{.0001, .0005, .001, .0025, .005, .01, .025, .1, 1})))
	var before prometheus.AlreadyRegisteredError
	switch err := metrics.Register(counts); {
	case errors.As(err, &before):
		counts = before.ExistingCollector.(*grpcprom.ServerMetrics)
	case err != nil:
		return fmt.Errorf("signer metrics: %w", err)
	}
	recovered := recovery.WithRecoveryHandler(func(p any) error {
		s.log.Error("panic while answering kube-apiserver", "panic", p, "stack", string(debug.Stack()))
		return status.Error(codes.Internal, "internal error")
	})
	g := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.ChainUnaryInterceptor(counts.UnaryServerInterceptor(), recovery.UnaryServerInterceptor(recovered)),
	)
	s.Register(g)
	counts.InitializeMetrics(g)

	stop := context.AfterFunc(ctx, func() {
		drained := time.AfterFunc(drainTimeout, g.Stop)
		g.GracefulStop()
		drained.Stop()
	})
	defer stop()
	if err := g.Serve(l); err != nil {
		return fmt.Errorf("serving the signer socket: %w", err)
	}
	return nil
}
