package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// A relyingParty is told a token and believes it or not.
type relyingParty struct {
	name   string
	verify func(ctx context.Context, token string) error
	// once spares a party whose answers cost much: it is asked about a token
	// when that is new and at the end, not all the time in between.
	once bool
}

// discovered is what a relying party has learnt of an issuer from its metadata,
// and the client that it asked with.
type discovered struct {
	*oidc.Provider
	ctx    context.Context // carries the client, for go-oidc
	client *http.Client
}

func discover(t *testing.T, issuer string, client *http.Client) discovered {
	t.Helper()
	ctx := oidc.ClientContext(t.Context(), client)
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		t.Fatalf("discovering %s: %v", issuer, err)
	}
	return discovered{Provider: provider, ctx: ctx, client: client}
}

// verifyWith checks a token under a go-oidc configuration and returns it.
func (d discovered) verifyWith(config *oidc.Config, token string) (*oidc.IDToken, error) {
	return d.VerifierContext(d.ctx, config).Verify(d.ctx, token)
}

// badSignature says whether go-oidc has asked for the keys, got them, and found
// none that made the signature.
func badSignature(err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed to verify id token signature")
}

// remote is go-oidc as its documentation shows it: it keeps keys for ever and
// fetches again at a kid that it does not know.
func (d discovered) remote() relyingParty {
	verifier := d.VerifierContext(d.ctx, &oidc.Config{ClientID: audience})
	return relyingParty{name: "go-oidc", verify: func(ctx context.Context, token string) error {
		_, err := verifier.Verify(ctx, token)
		return err
	}}
}

// metadata is the part of the discovery document that the tests look at.
type metadata struct {
	Issuer     string   `json:"issuer"`
	JWKSURI    string   `json:"jwks_uri"`
	Algorithms []string `json:"id_token_signing_alg_values_supported"`
}

func (d discovered) metadata(t *testing.T) metadata {
	t.Helper()
	var m metadata
	if err := d.Claims(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

// fetchKeySet gets a JWKS, and its header for those who look at that too.
func fetchKeySet(ctx context.Context, client *http.Client, url string) (jose.JSONWebKeySet, http.Header, error) {
	var set jose.JSONWebKeySet
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return set, nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return set, nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return set, nil, fmt.Errorf("GET %s: %s", url, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil {
		return set, nil, fmt.Errorf("GET %s: %w", url, err)
	}
	return set, response.Header, nil
}

// reviewer is the API server in its role as a relying party.
func (c *cluster) reviewer() relyingParty {
	return relyingParty{name: "TokenReview", once: true, verify: func(ctx context.Context, token string) error {
		return c.review(ctx, token, audience)
	}}
}
