package discovery

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Metadata is the provider metadata of OpenID Connect Discovery 1.0, section
// 3, as far as it means something for an issuer that only issues
// ServiceAccount tokens: it has no endpoint where anybody could log in.
type Metadata struct {
	Issuer                 string   `json:"issuer"`
	JWKSURI                string   `json:"jwks_uri"`
	ResponseTypesSupported []string `json:"response_types_supported"`
	SubjectTypesSupported  []string `json:"subject_types_supported"`
	// IDTokenSigningAlgValuesSupported are the algorithms of every published
	// key, the ones that have not signed yet included: some relying parties
	// read this list once and never again.
	IDTokenSigningAlgValuesSupported []string `json:"id_token_signing_alg_values_supported"`
	ClaimsSupported                  []string `json:"claims_supported,omitempty"`
}

// New is the metadata of issuer for keys with these algorithms. The
// algorithms may come in any order and more than once.
func New(issuer Issuer, algorithms []string) Metadata {
	algorithms = slices.Clone(algorithms)
	slices.Sort(algorithms)
	return Metadata{
		Issuer:                           issuer.String(),
		JWKSURI:                          issuer.JWKSURI(),
		ResponseTypesSupported:           []string{"id_token"},
		SubjectTypesSupported:            []string{"public"},
		IDTokenSigningAlgValuesSupported: slices.Compact(algorithms),
		ClaimsSupported:                  []string{"aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub"},
	}
}

// Marshal renders the document.
func (m Metadata) Marshal() ([]byte, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding provider metadata: %w", err)
	}
	return data, nil
}
