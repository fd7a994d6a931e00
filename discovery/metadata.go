package discovery

import (
	"encoding/json"
	"fmt"
)

// Metadata is the provider metadata of OpenID Connect Discovery 1.0, section 3.
// It has the fields that matter for an issuer of ServiceAccount tokens, which has
// no endpoint for users to log in.
type Metadata struct {
	Issuer                 string   `json:"issuer"`
	JWKSURI                string   `json:"jwks_uri"`
	ResponseTypesSupported []string `json:"response_types_supported"`
	SubjectTypesSupported  []string `json:"subject_types_supported"`
	// IDTokenSigningAlgValuesSupported has every algorithm that the issuer may use.
	IDTokenSigningAlgValuesSupported []string `json:"id_token_signing_alg_values_supported"`
	ClaimsSupported                  []string `json:"claims_supported,omitempty"`
}

// New returns the metadata of issuer, whose tokens may have these algorithms (RFC 7518,
// section 3.1). They should be all that it may ever use, whatever its keys are for now:
// go-oidc and others read the list once, when they start, and would reject the tokens
// of an algorithm that is added later.
func New(issuer Issuer, algorithms []string) Metadata {
	return Metadata{
		Issuer:                           issuer.String(),
		JWKSURI:                          issuer.JWKSURI(),
		ResponseTypesSupported:           []string{"id_token"},
		SubjectTypesSupported:            []string{"public"},
		IDTokenSigningAlgValuesSupported: algorithms,
		ClaimsSupported:                  []string{"aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub"},
	}
}

// Marshal renders the discovery document as JSON.
func (m Metadata) Marshal() ([]byte, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding provider metadata: %w", err)
	}
	return data, nil
}
