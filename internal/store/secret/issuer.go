package secret

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

const (
	metadataPath = "/.well-known/openid-configuration"
	maxMetadata  = 64 << 10
)

// Issuer returns the issuer that the API server's own provider metadata names:
// the one whose tokens that cluster accepts.
func (s *Store) Issuer(ctx context.Context) (string, error) {
	doing := fmt.Sprintf("reading %s at the API server %s", metadataPath, s.host)
	data, err := s.metadata(ctx)
	switch {
	case apierrors.IsForbidden(err):
		return "", fmt.Errorf("%s: %w (hint: bind the ClusterRole system:service-account-issuer-discovery)", doing, err)
	case apierrors.IsNotFound(err):
		return "", fmt.Errorf("%s: it has none (hint: it publishes metadata only if its --service-account-issuer is an https URL)", doing)
	case err != nil:
		return "", s.failure(ctx, doing, err)
	}
	var metadata struct{ Issuer string }
	if err := json.Unmarshal(data, &metadata); err != nil || metadata.Issuer == "" {
		return "", fmt.Errorf("%s: that is no provider metadata %s", doing, noAPIServer)
	}
	return metadata.Issuer, nil
}

func (s *Store) metadata(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	body, err := s.client.Get().AbsPath(metadataPath).MaxRetries(0).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, maxMetadata))
}

// TokenIssuer returns the issuer of the token that cfg authenticates with, or
// "" if there is none or it is no JWT. In a Pod, that is the issuer of the
// cluster. Nothing is verified.
func TokenIssuer(cfg *rest.Config) string {
	token := cfg.BearerToken
	if cfg.BearerTokenFile != "" {
		// As in client-go, the file wins as long as it can be read.
		if data, err := os.ReadFile(cfg.BearerTokenFile); err == nil {
			token = string(data)
		}
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Issuer
}
