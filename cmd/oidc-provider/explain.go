package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"oidc-provider/jwks"
)

// explain says everything that is wrong with a token that go-oidc has refused
// with err.
func (v *verifier) explain(ctx context.Context, token string, err error) error {
	header, payload, parseErr := parseToken(token)
	if parseErr != nil {
		return fmt.Errorf("not a JSON Web Token: %w", parseErr)
	}
	now := time.Now()
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }

	if payload.Issuer != v.issuer {
		add("wrong issuer: want %q, the token is from %q", v.issuer, payload.Issuer)
	}
	if !slices.Contains(payload.Audience, v.audience) {
		add("wrong audience: want %q, the token is for %q", v.audience, []string(payload.Audience))
	}
	if exp := payload.Expiry.time(); payload.Expiry == 0 {
		add("it never expires: exp is missing")
	} else if exp.Before(now) {
		add("expired since %s, %v ago", formatTime(exp), now.Sub(exp).Round(time.Second))
	}
	if nbf := payload.NotBefore.time(); nbf.After(now.Add(5 * time.Minute)) {
		add("not valid before %s, in %v (hint: are the clocks right?)", formatTime(nbf), nbf.Sub(now).Round(time.Second))
	}
	if reason := v.explainSignature(ctx, token, header); reason != "" {
		add("%s", reason)
	}
	if len(wrong) == 0 {
		return err
	}
	return errors.New(strings.Join(wrong, "\n       "))
}

// explainSignature returns what is wrong with the signature alone, or "".
func (v *verifier) explainSignature(ctx context.Context, token string, header joseHeader) string {
	anything := &oidc.Config{SkipClientIDCheck: true, SkipExpiryCheck: true, SkipIssuerCheck: true}
	if _, err := v.provider.VerifierContext(ctx, anything).Verify(ctx, token); err == nil {
		return ""
	}
	var published struct {
		JWKSURI    string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := v.provider.Claims(&published); err != nil {
		return err.Error()
	}
	if len(published.Algorithms) > 0 && !slices.Contains(published.Algorithms, header.Algorithm) {
		return fmt.Sprintf("wrong algorithm: the issuer advertises %q, the token has %q", published.Algorithms, header.Algorithm)
	}
	keys, err := v.fetchKeys(ctx, published.JWKSURI)
	if err != nil {
		return fmt.Sprintf("the key set at %s cannot be used: %v", published.JWKSURI, err)
	}
	var kids []string
	for _, k := range keys {
		kids = append(kids, k.KeyID())
	}
	if !slices.Contains(kids, header.KeyID) {
		return fmt.Sprintf("unknown kid: the token has %q, the issuer publishes %q (hint: a key that was revoked, removed after its time, or belongs to another issuer)", header.KeyID, kids)
	}
	return fmt.Sprintf("bad signature: it was not made by key %s over this header and these claims", header.KeyID)
}

func (v *verifier) fetchKeys(ctx context.Context, uri string) ([]jwks.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return jwks.Parse(data)
}

type joseHeader struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
}

type unverifiedClaims struct {
	Issuer    string      `json:"iss"`
	Audience  audience    `json:"aud"`
	Expiry    numericDate `json:"exp"`
	NotBefore numericDate `json:"nbf"`
}

// audience is aud: a string, or an array of them (RFC 7519, section 4.1.3).
type audience []string

// UnmarshalJSON implements [json.Unmarshaler].
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// numericDate is a number of seconds (RFC 7519, section 2).
type numericDate float64

func (n numericDate) time() time.Time {
	// Beyond these, in the year 10000, RFC 3339 and time.Time give up.
	return time.Unix(int64(min(max(float64(n), 0), 253402300799)), 0)
}

// parseToken reads a JWT without verifying it.
func parseToken(token string) (header joseHeader, payload unverifiedClaims, err error) {
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return header, payload, fmt.Errorf("it has %d parts between dots, want 3", len(segments))
	}
	for i, v := range []any{&header, &payload} {
		name := []string{"first part (the header)", "second part (the claims)"}[i]
		raw, err := base64.RawURLEncoding.DecodeString(segments[i])
		if err != nil {
			return header, payload, fmt.Errorf("the %s is not base64url", name)
		}
		if err := json.Unmarshal(raw, v); err != nil {
			return header, payload, fmt.Errorf("the %s cannot be read: %w", name, err)
		}
	}
	return header, payload, nil
}
