// Package signer is kube-apiserver's external JWT signer: the
// ExternalJWTSigner service of k8s.io/externaljwt, version 1, over a Unix
// socket.
package signer

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/timestamppb"
	externaljwt "k8s.io/externaljwt/apis/v1"

	"oidc-provider/rotation"
)

// MinTokenLifetime is the shortest maximum lifetime that kube-apiserver
// accepts from a signer.
const MinTokenLifetime = 10 * time.Minute

// Keys provides the keys of the signer. A [rotation.Rotator] implements it.
type Keys interface {
	View() *rotation.View
	Signer(now time.Time) (rotation.Signer, error)
}

// Server implements the ExternalJWTSigner service and the gRPC health
// service (Check, for any service name). It answers from memory.
type Server struct {
	externaljwt.UnimplementedExternalJWTSignerServer
	grpc_health_v1.UnimplementedHealthServer

	current  atomic.Pointer[source]
	refusals refusals
	log      *slog.Logger
}

// A source is what a Server answers from.
type source struct {
	Keys
	refreshHint time.Duration
}

// NewServer returns a server that signs with keys. refreshHint is how often
// kube-apiserver should fetch the keys, and becomes max-age of the JWKS that
// kube-apiserver itself serves: whole seconds, at least one. 0 means 1m. Refused
// calls are written to log, which should name the issuer.
func NewServer(keys Keys, refreshHint time.Duration, log *slog.Logger) *Server {
	s := &Server{log: log, refusals: refusals{log: log, seen: newRepeats()}}
	s.Use(keys, refreshHint)
	return s
}

// Use replaces keys and refreshHint for future calls. Connections stay open.
func (s *Server) Use(keys Keys, refreshHint time.Duration) {
	if refreshHint == 0 {
		refreshHint = time.Minute
	}
	s.current.Store(&source{keys, refreshHint})
}

// Register makes the services of s available on g.
func (s *Server) Register(g *grpc.Server) {
	externaljwt.RegisterExternalJWTSignerServer(g, s)
	grpc_health_v1.RegisterHealthServer(g, s)
}

// Metadata returns the longest lifetime of a token.
func (s *Server) Metadata(context.Context, *externaljwt.MetadataRequest) (*externaljwt.MetadataResponse, error) {
	lifetime := time.Duration(s.current.Load().View().Ring().Policy.MaxTokenLifetime)
	return &externaljwt.MetadataResponse{MaxTokenExpirationSeconds: int64(lifetime / time.Second)}, nil
}

// FetchKeys returns every key that tokens may verify against, in an order that
// does not change. The timestamp is that of the ring: while it stays the same
// kube-apiserver need not render its JWKS again.
func (s *Server) FetchKeys(context.Context, *externaljwt.FetchKeysRequest) (*externaljwt.FetchKeysResponse, error) {
	current := s.current.Load()
	ring := current.View().Ring()
	resp := &externaljwt.FetchKeysResponse{
		DataTimestamp:      timestamppb.New(ring.Updated),
		RefreshHintSeconds: max(int64(current.refreshHint/time.Second), 1),
	}
	for i := range ring.Keys {
		if k := &ring.Keys[i]; k.Published() {
			resp.Keys = append(resp.Keys, &externaljwt.Key{
				KeyId: k.KeyID, Key: k.Public, ExcludeFromOidcDiscovery: !k.InKeySet(),
			})
		}
	}
	return resp, nil
}

// Sign signs the claims as they are, if this issuer may make them: see
// [CheckClaims]. Otherwise the log has the details, and the requester of the
// token gets the reason without them.
func (s *Server) Sign(_ context.Context, req *externaljwt.SignJWTRequest) (*externaljwt.SignJWTResponse, error) {
	header, signature, err := s.sign(req.GetClaims())
	if err != nil {
		return nil, s.refusals.add(err)
	}
	return &externaljwt.SignJWTResponse{Header: header, Signature: signature}, nil
}

func (s *Server) sign(claims string) (header, signature string, err error) {
	now := time.Now()
	signer, err := s.current.Load().Signer(now)
	if err != nil {
		return "", "", err
	}
	if err := CheckClaims(claims, signer, now); err != nil {
		return "", "", err
	}
	return signer.Key.Sign(claims)
}

// Check implements the gRPC health protocol: serving means able to sign.
func (s *Server) Check(
	context.Context, *grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	state := grpc_health_v1.HealthCheckResponse_SERVING
	if _, err := s.current.Load().Signer(time.Now()); err != nil {
		state = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	return &grpc_health_v1.HealthCheckResponse{Status: state}, nil
}
