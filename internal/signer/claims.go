package signer

import (
	"encoding/base64"
	"fmt"
	"math"
	"time"

	"github.com/go-jose/go-jose/v4/json"

	"oidc-provider/rotation"
)

// A ClaimsError says why claims will not be signed.
type ClaimsError struct {
	// Reason is one of a few fixed texts, and contains nothing of the claims or
	// of the configuration.
	Reason string

	detail, hint string
}

func (e *ClaimsError) Error() string {
	if e.detail == "" {
		return e.Reason
	}
	return e.Reason + ": " + e.detail
}

// Hint implements [hint.Hinter].
func (e *ClaimsError) Hint() string { return e.hint }

// CheckClaims checks in claims, the base64url payload of a JWT, the two that
// every relying party relies on: iss is the signer's issuer, and exp is at most
// the longest token lifetime from now, since that is how long the key stays
// published. Every name must occur once in its object, and no name may differ from
// that of a registered claim only in case, so that this program reads what every
// relying party reads. The error is a [*ClaimsError].
func CheckClaims(claims string, signer rotation.Signer, now time.Time) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(claims)
	if err != nil {
		return &ClaimsError{Reason: "the claims are not unpadded base64url"}
	}
	if err := ambiguous(raw); err != nil {
		return &ClaimsError{Reason: "relying parties could read the claims differently", detail: err.Error()}
	}
	var c struct {
		Issuer *string  `json:"iss"`
		Expiry *float64 `json:"exp"`
	}
	// go-jose's JSON matches the case of names.
	if err := json.Unmarshal(raw, &c); err != nil {
		return &ClaimsError{Reason: "the claims are not a JSON object with iss and exp, each once"}
	}
	switch {
	case c.Issuer == nil:
		return &ClaimsError{Reason: "iss is missing", hint: setIssuer(signer)}
	case *c.Issuer != signer.Issuer:
		return &ClaimsError{
			Reason: "iss is not the issuer of this signer",
			detail: fmt.Sprintf("it is %s, want %q", quoted(*c.Issuer), signer.Issuer),
			hint:   setIssuer(signer),
		}
	case c.Expiry == nil:
		return &ClaimsError{Reason: "exp is missing", detail: "a token that never expires would outlive its key"}
	case math.IsNaN(*c.Expiry) || *c.Expiry > float64(now.Add(signer.MaxTokenLifetime).UnixNano())/1e9:
		return &ClaimsError{
			Reason: "exp is later than the longest token lifetime allows",
			detail: fmt.Sprintf("that is %v", signer.MaxTokenLifetime),
			hint: "{policy.maxTokenLifetime} sets the longest token lifetime; " +
				"restart kube-apiserver after you shorten it",
		}
	}
	return nil
}

func setIssuer(signer rotation.Signer) string {
	return "set --service-account-issuer=" + signer.Issuer + " for kube-apiserver"
}

// quoted returns the start of a claim in quotes.
func quoted(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%.200q...", s)
	}
	return fmt.Sprintf("%q", s)
}
