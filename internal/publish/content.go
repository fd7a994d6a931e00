package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

// MaxContent, in bytes, is far above the size of any key set that relying parties
// read.
const MaxContent = 1 << 20

// Content is what a copy of the key set contains.
type Content struct {
	keys    []jwks.PublicKey
	ignored []error // why relying parties ignore the other entries
}

// ParseContent parses what a copy contains: a key set, public keys in PEM, a
// provider of a Google Cloud workload identity pool, or the configuration of a
// Vault auth method jwt, the latter two in JSON.
func ParseContent(data []byte) (*Content, error) {
	if len(data) > MaxContent {
		return nil, fmt.Errorf("not a key set: more than %d bytes", MaxContent)
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return parsePEM(data)
	}
	var document struct {
		Google *struct {
			KeySet string `json:"jwksJson"`
		} `json:"oidc"`
		Vault *struct {
			PEM []string `json:"jwt_validation_pubkeys"`
		} `json:"data"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("not a complete JSON document: %w", err)
	}
	switch google, vault := document.Google, document.Vault; {
	case google != nil && google.KeySet == "":
		return nil, noCopy("Google Cloud")
	case google != nil:
		data = []byte(google.KeySet)
	case vault != nil && len(vault.PEM) == 0:
		return nil, noCopy("Vault")
	case vault != nil:
		return parsePEM([]byte(strings.Join(vault.PEM, "\n")))
	}
	keys, ignored, err := jwks.Filter(data)
	return &Content{keys, ignored}, err
}

func noCopy(party string) error {
	return hint.Errorf("`oidc-provider keys copies remove`",
		"it contains no keys: %s fetches them from the issuer, and no rotation needs to wait for it", party)
}

func parsePEM(data []byte) (*Content, error) {
	c, err := jwks.ParseFile(data)
	if err == nil {
		err = c.Check()
	}
	if err != nil {
		return nil, err
	}
	if len(c.Private) > 0 {
		return nil, hint.Errorf("revoke the key, and copy only public halves",
			"the private half of key %s is in it: anyone who can read the copy can sign", c.Private[0].KeyID())
	}
	return &Content{c.Public, c.Skipped}, nil
}
