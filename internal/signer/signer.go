// Package signer is kube-apiserver's external JWT signer: the
// ExternalJWTSigner service of k8s.io/externaljwt, version 1, over a Unix
// socket.
package signer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4/json"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	externaljwt "k8s.io/externaljwt/apis/v1"

	"oidc-provider/rotation"
)

// MinTokenLifetime is the shortest maximum lifetime that kube-apiserver
// accepts from a signer.
const MinTokenLifetime = 10 * time.Minute

// Keys is where the signer gets its keys from: a [rotation.Rotator].
type Keys interface {
	View() *rotation.View
	Signer(now time.Time) (rotation.Signer, error)
}

// Server implements the ExternalJWTSigner service and the gRPC health
// service (Check, for any service name). It answers from memory.
type Server struct {
	externaljwt.UnimplementedExternalJWTSignerServer
	grpc_health_v1.UnimplementedHealthServer

	current atomic.Pointer[answers]
}

// answers are where a Server takes its answers from.
type answers struct {
	Keys
	refreshHint time.Duration
}

// NewServer is a server that signs with keys. refreshHint is how often
// kube-apiserver should ask for them, and becomes max-age of the JWKS that
// kube-apiserver itself serves: whole seconds, at least one. 0 stands for 1m.
func NewServer(keys Keys, refreshHint time.Duration) *Server {
	s := new(Server)
	s.Use(keys, refreshHint)
	return s
}

// Use is NewServer for calls from now on: connections stay.
func (s *Server) Use(keys Keys, refreshHint time.Duration) {
	if refreshHint == 0 {
		refreshHint = time.Minute
	}
	s.current.Store(&answers{keys, refreshHint})
}

// Register makes the services of s available on g.
func (s *Server) Register(g *grpc.Server) {
	externaljwt.RegisterExternalJWTSignerServer(g, s)
	grpc_health_v1.RegisterHealthServer(g, s)
}

// Metadata tells kube-apiserver how long a token may live.
func (s *Server) Metadata(context.Context, *externaljwt.MetadataRequest) (*externaljwt.MetadataResponse, error) {
	lifetime := time.Duration(s.current.Load().View().Ring().Policy.MaxTokenLifetime)
	return &externaljwt.MetadataResponse{MaxTokenExpirationSeconds: int64(lifetime / time.Second)}, nil
}

// FetchKeys returns every key that tokens may verify against, in an order
// that does not change. The timestamp is that of the ring: as long as it stays
// kube-apiserver need not render its JWKS anew.
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
				KeyId: k.KeyID, Key: k.Public, ExcludeFromOidcDiscovery: k.ExcludeFromDiscovery,
			})
		}
	}
	return resp, nil
}

// Sign signs the claims as they come, if they are claims that this issuer may
// make: see [CheckClaims].
func (s *Server) Sign(_ context.Context, req *externaljwt.SignJWTRequest) (*externaljwt.SignJWTResponse, error) {
	now := time.Now()
	signer, err := s.current.Load().Signer(now)
	if err != nil {
		return nil, statusOf(err)
	}
	if err := CheckClaims(req.GetClaims(), signer, now); err != nil {
		return nil, statusOf(err)
	}
	header, signature, err := signer.Key.Sign(req.GetClaims())
	if err != nil {
		return nil, statusOf(err)
	}
	return &externaljwt.SignJWTResponse{Header: header, Signature: signature}, nil
}

// Check implements the gRPC health protocol: serving means able to sign.
func (s *Server) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	state := grpc_health_v1.HealthCheckResponse_SERVING
	if _, err := s.current.Load().Signer(time.Now()); err != nil {
		state = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	return &grpc_health_v1.HealthCheckResponse{Status: state}, nil
}

// A ClaimsError is what is wrong with claims that were to be signed.
type ClaimsError struct{ Reason string }

func (e *ClaimsError) Error() string { return "these claims will not be signed: " + e.Reason }

// CheckClaims looks into claims, the base64url payload of a JWT, for the two
// that the rest of the world relies on: iss is the signer's, and exp comes no
// later than the longest token lifetime from now, since that is how long the
// key stays published. Names must match exactly and stand once: what this
// program reads is what every relying party reads. The error is a
// [*ClaimsError].
func CheckClaims(claims string, signer rotation.Signer, now time.Time) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(claims)
	if err != nil {
		return &ClaimsError{"not unpadded base64url"}
	}
	var c struct {
		Issuer *string  `json:"iss"`
		Expiry *float64 `json:"exp"`
	}
	// go-jose's JSON minds the case of names and refuses to see one twice.
	if err := json.Unmarshal(raw, &c); err != nil {
		return &ClaimsError{"not a JSON object with iss and exp, each once"}
	}
	switch {
	case c.Issuer == nil || *c.Issuer != signer.Issuer:
		return &ClaimsError{fmt.Sprintf("iss is %s, and this signer's issuer is %q (hint: give kube-apiserver --service-account-issuer=%s)", quoted(c.Issuer), signer.Issuer, signer.Issuer)}
	case c.Expiry == nil:
		return &ClaimsError{"exp is missing: a token that never expires would outlive its key"}
	case math.IsNaN(*c.Expiry) || *c.Expiry > float64(now.Add(signer.MaxTokenLifetime).UnixNano())/1e9:
		return &ClaimsError{fmt.Sprintf("exp is more than %v away, the longest token lifetime (hint: --max-token-lifetime sets it, and kube-apiserver must be restarted after it was shortened)", signer.MaxTokenLifetime)}
	}
	return nil
}

// quoted shows a claim that came from elsewhere, but not all of it.
func quoted(s *string) string {
	if s == nil {
		return "missing"
	}
	if len(*s) > 200 {
		return fmt.Sprintf("%.200q...", *s)
	}
	return fmt.Sprintf("%q", *s)
}

// statusOf maps errors to gRPC. Anything that is not the caller's fault is
// Unavailable: kube-apiserver asks again.
func statusOf(err error) error {
	var claims *ClaimsError
	if errors.As(err, &claims) {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}
