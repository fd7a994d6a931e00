package secret

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/rest"

	"oidc-provider/internal/kube"
	"oidc-provider/rotation"
)

// Issuer returns the issuer that the API server's own discovery document names:
// the one whose tokens that cluster accepts.
func (s *Store) Issuer(parent context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(parent, readTimeout)
	defer cancel()
	issuer, err := s.server.Issuer(ctx)
	doing := "asking the API server " + s.server.Host() + " for its issuer"
	switch {
	case err == nil:
		return issuer, nil
	case errors.Is(parent.Err(), context.Canceled):
		return "", fmt.Errorf("%s: %w", doing, parent.Err())
	case kube.Unavailable(err):
		return "", fmt.Errorf("%s: %w: %w", doing, rotation.ErrUnavailable, err)
	}
	return "", fmt.Errorf("%s: %w", doing, err)
}

// TokenIssuer returns the issuer of the token that cfg authenticates with, or "" if
// it has no token or not a JWT. In a Pod, that is the issuer of the cluster. The token
// is not verified.
func TokenIssuer(cfg *rest.Config) string {
	token := cfg.BearerToken
	if cfg.BearerTokenFile != "" {
		// As in client-go, a readable file overrides the token.
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
