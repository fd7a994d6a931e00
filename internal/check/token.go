package check

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// MaxToken, in bytes, is far more than fits into a request header.
const MaxToken = 64 << 10

// A token is the unverified contents of a JWT. The JWT itself is not kept, so
// that a report cannot leak it.
type token struct {
	size   int
	err    error
	header map[string]json.RawMessage
	claims map[string]json.RawMessage

	alg, kid                  string
	issuer, subject           string
	audience                  audience
	expiry, issued, notBefore float64

	signatureErr error // with the key that has its kid, if there is one
}

// observeToken parses a token, and verifies its signature if its key is known.
func (o *Observation) observeToken(raw string) {
	o.token = parseToken(raw)
	k := o.key(o.token.kid)
	if k == nil || k.public == nil {
		return
	}
	parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(o.token.alg)})
	if err == nil {
		_, err = parsed.Verify(k.public)
	}
	o.token.signatureErr = err
}

// Judge returns a report about another token, from what was seen of the issuer.
func (o *Observation) Judge(token, audience string) *Report {
	other := *o
	other.Options.Audience = audience
	other.observeToken(token)
	return judge(&other)
}

func parseToken(raw string) *token {
	t := &token{size: len(raw)}
	parts := strings.Split(raw, ".")
	switch {
	case len(raw) > MaxToken:
		t.err = fmt.Errorf("it is longer than %d bytes", MaxToken)
		return t
	case len(parts) != 3:
		t.err = fmt.Errorf("it has %d parts between dots, want 3", len(parts))
		return t
	}
	for i, to := range []*map[string]json.RawMessage{&t.header, &t.claims} {
		what := []string{"first part, the header,", "second part, the claims,"}[i]
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.err = fmt.Errorf("the %s is not base64url", what)
			return t
		}
		if err := json.Unmarshal(data, to); err != nil || *to == nil {
			t.err = fmt.Errorf("the %s is not a JSON object", what)
			return t
		}
		if err := duplicate(data); err != nil {
			t.err = fmt.Errorf("in the %s %w", what, err)
			return t
		}
	}
	for _, member := range []struct {
		of   map[string]json.RawMessage
		name string
		to   any
	}{
		{t.header, "alg", &t.alg}, {t.header, "kid", &t.kid},
		{t.claims, "iss", &t.issuer}, {t.claims, "sub", &t.subject}, {t.claims, "aud", &t.audience},
		{t.claims, "exp", &t.expiry}, {t.claims, "iat", &t.issued}, {t.claims, "nbf", &t.notBefore},
	} {
		if v, there := member.of[member.name]; there && json.Unmarshal(v, member.to) != nil {
			t.err = fmt.Errorf("%s has the wrong JSON type (RFC 7519, section 4.1)", member.name)
		}
	}
	return t
}

// An audience is a string or a list of strings (RFC 7519, section 4.1.3).
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
