package jwks_test

import (
	"fmt"
	"strings"
	"testing"

	"oidc-provider/jwks"
)

// Members that are never published again do not decide, whatever their value is.
func TestFilterIgnoresOtherMembers(t *testing.T) {
	jwk := jwkOf(t, "rsa-pkcs1.pem")
	for _, member := range []string{
		`"x5c":["MIIB"]`, `"x5c":[]`, `"x5c":"MIIB"`, `"x5c":null`, `"x5c":[1]`, `"x5t":"AAAA"`, `"x5t":7`,
		`"x5t#S256":"not base64"`, `"x5t#S256":"AAAA"`, `"x5u":"http://\u0000"`, `"x5u":"https://other.example"`,
		`"x5u":{}`, `"oth":[]`, `"oth":"AQ"`, `"oth":[{"r":"AQ"}]`, `"ext":true`, `"iat":1,"exp":2`, `"":{"":[]}`,
		`"unknown":"\ud800"`, `"KTY":"oct"`, `"N":"AQ"`, `"revoked":{"reason":"x"}`, `"a":1,"a":2`,
		`"key_ops":["verify"]`, `"key_ops":["sign","verify"]`, `"key_ops":["ver\u0069fy"]`, `"key_ops":null`,
		`"long` + strings.Repeat("x", 1<<16) + `":[` + strings.Repeat(`[`, 900) + strings.Repeat(`]`, 900) + `]`,
	} {
		for _, entry := range []string{`{` + member + `,` + jwk[1:], jwk[:len(jwk)-1] + `,` + member + `}`} {
			keys, skipped, err := jwks.Filter([]byte(`{"keys":[` + entry + `]}`))
			if err != nil || len(keys) != 1 || keys[0].KeyID() != signingKeyID(t) {
				t.Errorf("%.60s: got %d keys, %v, %v", member, len(keys), skipped, err)
			}
		}
	}
}

func signingKeyID(t testing.TB) string { return signingKey(t, "rsa-pkcs1.pem").KeyID() }

// Members that do decide.
func TestFilterCore(t *testing.T) {
	rsa, ec := jwkOf(t, "rsa-pkcs1.pem"), jwkOf(t, "ec-prime256v1.pem")
	with := func(jwk, member string) string { return `{` + member + `,` + jwk[1:] }
	without := func(jwk, member string) string { return strings.Replace(jwk, `"`+member+`":`, `"no":`, 1) }
	for name, tt := range map[string]struct{ jwk, want string }{
		"key_ops for encryption": {with(rsa, `"key_ops":["encrypt"]`), "key_ops does not contain verify"},
		"key_ops for nothing":    {with(rsa, `"key_ops":[]`), "key_ops does not contain verify"},
		"key_ops a string":       {with(rsa, `"key_ops":"verify"`), "key_ops is not an array"},
		"key_ops of numbers":     {with(rsa, `"key_ops":[1,{"verify":[]},"`+strings.Repeat("verify", 100)+`\\"]`), "key_ops does not contain"},
		"n twice":                {with(rsa, `"n":"AQAB"`), `"n" twice`},
		"n twice, escaped":       {with(rsa, `"\u006e":"AQAB"`), `"n" twice`},
		"kid an object":          {with(without(rsa, "kid"), `"kid":{"kid":"a"}`), "kid is not a string"},
		"kid null":               {with(without(rsa, "kid"), `"kid":null`), "no kid"},
		"kid not UTF-8":          {with(without(rsa, "kid"), `"kid":"a`+"\xff"+`"`), "kid is not valid UTF-8"},
		"kty missing":            {without(rsa, "kty"), `kty is "": want RSA or ECDSA`},
		"kty in lower case":      {with(without(rsa, "kty"), `"kty":"rsa"`), `kty is "rsa"`},
		"use a number":           {with(without(rsa, "use"), `"use":1`), "use is not a string"},
		"alg a number":           {with(without(rsa, "alg"), `"alg":256`), "alg is not a string"},
		"n missing":              {without(rsa, "n"), "n is missing"},
		"e missing":              {without(rsa, "e"), "e is missing"},
		"n padded":               {strings.Replace(rsa, `","e"`, `=","e"`, 1), ""},
		"e in hexadecimal":       {with(without(rsa, "e"), `"e":"0x010001"`), "exponent is"},
		"e a number":             {with(without(rsa, "e"), `"e":65537`), "e is not a string"},
		"n endless":              {with(without(rsa, "n"), `"n":"`+strings.Repeat("A", 1<<16)+`"`), "too long"},
		"x missing":              {without(ec, "x"), "x is missing"},
		"y short":                {with(without(ec, "y"), `"y":"AAAA"`), "y has 3 bytes, want 32"},
		"y with a leading zero":  {strings.Replace(ec, `"y":"`, `"y":"AAAA`, 1), "y has 35 bytes, want 32"},
		"crv missing":            {without(ec, "crv"), `curve ""`},
	} {
		keys, skipped, err := jwks.Filter([]byte(`{"keys":[` + tt.jwk + `]}`))
		if tt.want == "" {
			continue
		}
		if err != nil || len(keys) != 0 || len(skipped) != 1 || !strings.Contains(skipped[0].Error(), tt.want) ||
			len(skipped[0].Error()) > 300 {
			t.Errorf("%s: got %d keys, %.300v, %v, want %q", name, len(keys), skipped, err, tt.want)
		}
	}
}

// A private key is found, however its name is written.
func TestFilterFindsPrivateMembers(t *testing.T) {
	ec := jwkOf(t, "ec-prime256v1.pem")
	for _, private := range []string{
		`{"\u0064":"AA"}`, `{"x":"\"","d":"AA"}`, `{"a":"\\","d":"AA"}`, `{"a":{"b":"}"},"d":null}`,
		`{ "kty" : "RSA" , "d" : [ "AA" ] }`, `{"a":[1,2,{"d":1}],"\u0070riv":""}`, `{"":"","k":0}`,
	} {
		for _, set := range []string{
			`{"keys":[` + private + `]}`, `{"keys":[` + ec + `,` + private + `]}`, ` { "KEYS" : [ ` + private + ` , ` + ec + ` ] } `,
			`{"a":[{"d":1}],"\u006beys":[` + private + `]}`,
		} {
			if keys, skipped, err := jwks.Filter([]byte(set)); err == nil || !strings.Contains(err.Error(), "private") {
				t.Errorf("%s: got %v, %v, %v", set, keys, skipped, err)
			}
		}
	}
}

// The first reasons are kept, and the others counted.
func TestFilterBoundsReasons(t *testing.T) {
	for _, tt := range []struct{ entries, reasons int }{{1, 1}, {19, 19}, {20, 20}, {21, 20}, {1000, 20}} {
		set := `{"keys":[` + strings.TrimSuffix(strings.Repeat(`{},`, tt.entries), ",") + `]}`
		_, skipped, err := jwks.Filter([]byte(set))
		if err != nil || len(skipped) != tt.reasons {
			t.Errorf("%d entries: %d reasons, %v", tt.entries, len(skipped), err)
			continue
		}
		if more := fmt.Sprintf("and %d more are invalid", tt.entries-19); tt.entries > 19 && skipped[19].Error() != more {
			t.Errorf("%d entries: got %q, want %q", tt.entries, skipped[19], more)
		}
	}
	_, _, err := jwks.Filter([]byte(`{"keys":[` + strings.Repeat(`{},`, 1000) + `{}]}`))
	if err == nil || !strings.Contains(err.Error(), "more than 1000 keys") {
		t.Errorf("1001 entries: %v", err)
	}
	_, _, err = jwks.Filter([]byte(strings.Repeat(`[`, 1001)))
	if err == nil || !strings.Contains(err.Error(), "levels deep") {
		t.Errorf("1001 levels: %v", err)
	}
}
