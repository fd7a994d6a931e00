package jwks_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

func readKey(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../testdata/keys", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func signingKey(t testing.TB, name string) *jwks.SigningKey {
	t.Helper()
	private, _, err := jwks.ParsePEM(readKey(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return private[0]
}

// kids.txt holds what openssl computes from the DER: an implementation that
// is not ours.
func TestKeyIDMatchesOpenSSL(t *testing.T) {
	for line := range strings.Lines(string(readKey(t, "kids.txt"))) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, public, err := jwks.ParsePEM(readKey(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := public[0].KeyID(); got != want {
			t.Errorf("%s: kid %s, want %s", name, got, want)
		}
	}
}

func TestSign(t *testing.T) {
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://oidc.example.test"}`))
	for _, alg := range jwks.Algorithms {
		t.Run(string(alg), func(t *testing.T) {
			key, err := jwks.Generate(alg, 0)
			if err != nil {
				t.Fatal(err)
			}
			header, signature, err := key.Sign(payload)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := base64.RawURLEncoding.DecodeString(header)
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf(`{"alg":"%s","kid":"%s","typ":"JWT"}`, alg, key.KeyID()); string(raw) != want {
				t.Errorf("header %s, want %s", raw, want)
			}
			jws, err := jose.ParseSignedCompact(header+"."+payload+"."+signature, []jose.SignatureAlgorithm{alg})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := jws.Verify(key.Key()); err != nil {
				t.Errorf("go-jose does not accept the signature: %v", err)
			}
			other, _, err := key.Sign(payload + "A")
			if err != nil || other != header {
				t.Errorf("the header depends on the payload: %v", err)
			}
		})
	}
}

func TestGenerateRefuses(t *testing.T) {
	for _, tt := range []struct {
		alg  jose.SignatureAlgorithm
		bits int
	}{{"none", 0}, {"HS256", 0}, {"PS256", 0}, {"", 0}, {"rs256", 0}, {jose.RS256, 1024}, {jose.RS256, 2049}} {
		if _, err := jwks.Generate(tt.alg, tt.bits); err == nil {
			t.Errorf("Generate(%q, %d) made a key", tt.alg, tt.bits)
		}
	}
}

func TestPKCS8RoundTrip(t *testing.T) {
	for _, alg := range jwks.Algorithms {
		key, err := jwks.Generate(alg, 0)
		if err != nil {
			t.Fatal(err)
		}
		der, err := key.PKCS8()
		if err != nil {
			t.Fatal(err)
		}
		again, err := jwks.ParsePKCS8(der)
		if err != nil {
			t.Fatal(err)
		}
		if again.KeyID() != key.KeyID() || again.Algorithm() != alg {
			t.Errorf("%s: came back as %v", alg, again)
		}
	}
}

func TestMarshalHasExactlyThePublicMembers(t *testing.T) {
	var keys []jwks.PublicKey
	want := map[string][]string{}
	for name, members := range map[string][]string{
		"rsa-pkcs1.pem":     {"alg", "e", "kid", "kty", "n", "use"},
		"ec-prime256v1.pem": {"alg", "crv", "kid", "kty", "use", "x", "y"},
		"ec-secp384r1.pem":  {"alg", "crv", "kid", "kty", "use", "x", "y"},
		"ec-secp521r1.pem":  {"alg", "crv", "kid", "kty", "use", "x", "y"},
	} {
		key := signingKey(t, name)
		keys = append(keys, key.PublicKey)
		want[key.KeyID()] = members
	}
	data, err := jwks.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, k := range set.Keys {
		got[k["kid"]] = sortedKeys(k)
		if k["use"] != "sig" {
			t.Errorf("use is %q", k["use"])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	again, err := jwks.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range again {
		if k.KeyID() != keys[i].KeyID() || !bytes.Equal(k.PKIX(), keys[i].PKIX()) {
			t.Errorf("key %d came back as another", i)
		}
	}
}

func sortedKeys(m map[string]string) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestMarshalOfNothingIsAnEmptyArray(t *testing.T) {
	data, err := jwks.Marshal(nil)
	if err != nil || string(data) != `{"keys":[]}` {
		t.Errorf("got %s, %v", data, err)
	}
}

func TestParseRefuses(t *testing.T) {
	key := signingKey(t, "ec-prime256v1.pem")
	good, err := jwks.Marshal([]jwks.PublicKey{key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	jwk := strings.TrimSuffix(strings.TrimPrefix(string(good), `{"keys":[`), `]}`)
	for name, data := range map[string]string{
		"not JSON":    `<html>`,
		"no keys":     `{"error":"x"}`,
		"null":        `null`,
		"private":     strings.Replace(string(good), `"kty"`, `"d":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE","kty"`, 1),
		"symmetric":   `{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}`,
		"no kid":      strings.Replace(string(good), key.KeyID(), "", 1),
		"twice":       `{"keys":[` + jwk + `,` + jwk + `]}`,
		"encryption":  strings.Replace(string(good), `"sig"`, `"enc"`, 1),
		"other alg":   strings.Replace(string(good), `"ES256"`, `"ES384"`, 1),
		"not a point": strings.Replace(string(good), `"x":"`, `"x":"AAAA`, 1),
	} {
		if keys, err := jwks.Parse([]byte(data)); err == nil {
			t.Errorf("%s: accepted as %v", name, keys)
		}
	}
}

// jwkOf is the JWK of a key as Marshal renders it.
func jwkOf(t testing.TB, name string) string {
	t.Helper()
	data, err := jwks.Marshal([]jwks.PublicKey{signingKey(t, name).PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(data), `{"keys":[`), `]}`)
}

func TestFilter(t *testing.T) {
	rsa, ec := jwkOf(t, "rsa-pkcs1.pem"), jwkOf(t, "ec-prime256v1.pem")
	change := func(jwk, from, to string) string {
		if !strings.Contains(jwk, from) {
			t.Fatalf("no %s in %s", from, jwk)
		}
		return strings.Replace(jwk, from, to, 1)
	}
	for name, tt := range map[string]struct{ jwk, want string }{
		"other type":       {`{"kty":"AKP","kid":"a","alg":"ML-DSA-44","pub":"AAAA"}`, `"a"`},
		"unknown type":     {`{"kty":"new","kid":"a"}`, `"a"`},
		"Ed25519":          {`{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, "want RSA or ECDSA"},
		"other curve":      {`{"kty":"EC","crv":"secp256k1","kid":"a","x":"AAAA","y":"AAAA"}`, `"a"`},
		"too small":        {`{"kty":"RSA","kid":"a","e":"AQAB","n":"` + strings.Repeat("_", 171) + `"}`, "want 2048"},
		"PS256":            {change(rsa, `"RS256"`, `"PS256"`), `alg is "PS256"`},
		"RS512":            {change(rsa, `"RS256"`, `"RS512"`), `alg is "RS512"`},
		"encryption":       {change(ec, `"sig"`, `"enc"`), `use is "enc"`},
		"no kid":           {change(ec, `"kid"`, `"id"`), "no kid"},
		"kid a number":     {change(ec, `"kid":"`, `"kid":7,"x5u":"`), `kid ""`},
		"not a point":      {change(ec, `"x":"`, `"x":"AAAA`), "kid"},
		"member twice":     {change(ec, `"kty":"EC"`, `"kty":"EC","kty":"EC"`), "kid"},
		"no object":        {`[1]`, "kid"},
		"null":             {`null`, "kid"},
		"there already":    {rsa, "already"},
		"endless alg":      {change(rsa, `"RS256"`, `"`+strings.Repeat("x", 1<<16)+`"`), `alg is "xxx`},
		"endless kid":      {`{"kty":"new","kid":"` + strings.Repeat("x", 1<<16) + `"}`, "xxx"},
		"private in depth": {`{"kty":"new","kid":"a","more":{"d":"AAAA"}}`, `"a"`},
	} {
		t.Run(name, func(t *testing.T) {
			keys, skipped, err := jwks.Filter([]byte(`{"keys":[` + rsa + `,` + tt.jwk + `,` + jwkOf(t, "ec-secp384r1.pem") + `]}`))
			if err != nil || len(keys) != 2 || len(skipped) != 1 {
				t.Fatalf("got %d keys, %v, %v", len(keys), skipped, err)
			}
			if keys[0].KeyID() != signingKey(t, "rsa-pkcs1.pem").KeyID() || keys[1].KeyID() != signingKey(t, "ec-secp384r1.pem").KeyID() {
				t.Errorf("got %s and %s", keys[0].KeyID(), keys[1].KeyID())
			}
			got := skipped[0].Error()
			if !strings.HasPrefix(got, "key 1 of the set (kid ") || !strings.Contains(got, tt.want) || len(got) > 300 {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
		})
	}
}

func TestFilterRefuses(t *testing.T) {
	rsa, ec := jwkOf(t, "rsa-pkcs1.pem"), jwkOf(t, "ec-prime256v1.pem")
	_, members, _ := strings.Cut(rsa, `"kid":`)
	_, rest, _ := strings.Cut(members, ",")
	const material = "c2VjcmV0"
	sets := map[string]string{
		"not JSON":       `<html>`,
		"half":           `{"keys":[` + rsa,
		"no keys":        `{"error":"x"}`,
		"null":           `null`,
		"null keys":      `{"keys":null}`,
		"object":         `{"keys":{}}`,
		"keys twice":     `{"keys":[{"kty":"oct","k":"` + material + `"}],"keys":[` + rsa + `]}`,
		"symmetric":      `{"keys":[` + rsa + `,{"kty":"oct","kid":"a","k":"` + material + `"}]}`,
		"two of one kid": `{"keys":[` + ec + `,` + strings.Replace(rsa, members, `"`+signingKey(t, "ec-prime256v1.pem").KeyID()+`",`+rest, 1) + `]}`,
	}
	for _, member := range []string{"d", "p", "q", "dp", "dq", "qi", "k", "priv"} {
		private := `"` + member + `":"` + material + `",`
		sets[member+" of RSA"] = `{"keys":[` + ec + `,{` + private + rsa[1:] + `]}`
		sets[member+" of another type"] = `{"keys":[` + ec + `,{` + private + `"kty":"new"}]}`
		sets[member+" twice"] = `{"keys":[` + ec + `,{` + private + private + `"kty":"new"}]}`
		sets[member+" as an array"] = `{"keys":[` + ec + `,{"` + member + `":[{"d":"` + material + `"}],"kty":"new"}]}`
	}
	for name, data := range sets {
		keys, _, err := jwks.Filter([]byte(data))
		if err == nil {
			t.Errorf("%s: accepted as %v", name, keys)
		} else if strings.Contains(err.Error(), material) {
			t.Errorf("%s: the error quotes it: %v", name, err)
		}
	}
}

func TestParsePEM(t *testing.T) {
	rsaKid := signingKey(t, "rsa-pkcs1.pem").KeyID()
	for _, tt := range []struct {
		file    string
		private bool
		kid     string
	}{
		{"rsa-pkcs8.pem", true, rsaKid},
		{"rsa-public.pem", false, rsaKid},
		{"rsa-public-pkcs1.pem", false, rsaKid},
		{"rsa-certificate.pem", false, rsaKid},
		{"ec-prime256v1.pem", true, signingKey(t, "ec-prime256v1.pem").KeyID()},
	} {
		private, public, err := jwks.ParsePEM(readKey(t, tt.file))
		if err != nil {
			t.Errorf("%s: %v", tt.file, err)
			continue
		}
		var kid string
		if tt.private && len(private) == 1 && len(public) == 0 {
			kid = private[0].KeyID()
		} else if !tt.private && len(private) == 0 && len(public) == 1 {
			kid = public[0].KeyID()
		}
		if kid != tt.kid {
			t.Errorf("%s: got %v and %d public, want kid %s", tt.file, private, len(public), tt.kid)
		}
	}
	both := append(readKey(t, "rsa-pkcs1.pem"), readKey(t, "ec-secp384r1-public.pem")...)
	if private, public, err := jwks.ParsePEM(both); err != nil || len(private) != 1 || len(public) != 1 {
		t.Errorf("two blocks: got %d private, %d public, %v", len(private), len(public), err)
	}
}

func TestParsePEMRefuses(t *testing.T) {
	for file, want := range map[string]string{
		"rsa-encrypted.pem":       "decrypt it first",
		"rsa-encrypted-pkcs8.pem": "decrypt it first",
		"rsa-1024.pem":            "1024 bits",
		"ec-secp224r1.pem":        "P-224",
		"ed25519.pem":             "want RSA or ECDSA",
		"kids.txt":                "no key found",
	} {
		_, _, err := jwks.ParsePEM(readKey(t, file))
		if err == nil || !strings.Contains(hint.Text(err, hint.Field), want) {
			t.Errorf("%s: got %v, want an error with %q", file, err, want)
		}
	}
	broken := []byte("-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0IGJ5dGVz\n-----END RSA PRIVATE KEY-----\n")
	if _, _, err := jwks.ParsePEM(broken); err == nil || strings.Contains(err.Error(), "asn1") {
		t.Errorf("a broken private key: got %v, want an error of our own", err)
	}
}

// Whatever is done to print a signing key, its private bytes stay in.
func TestSigningKeyDoesNotPrint(t *testing.T) {
	key := signingKey(t, "ec-prime256v1.pem")
	der, err := key.PKCS8()
	if err != nil {
		t.Fatal(err)
	}
	// The scalar is at a fixed place in the PKCS #8 form of P-256.
	scalar := der[36:68]
	asJSON, err := json.Marshal(map[string]any{"pointer": key, "value": *key})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Error("text", "key", key, "value", *key)
	slog.New(slog.NewTextHandler(&log, nil)).Error("text", "key", key, "value", *key)
	out := fmt.Sprintf("%v %+v %#v %s %x %d %v %+v %#v %s %s", key, key, key, key, key, *key, *key, *key,
		struct{ K *jwks.SigningKey }{key}, asJSON, log.String())
	for _, form := range []string{
		string(scalar), hex.EncodeToString(scalar), base64.StdEncoding.EncodeToString(der)[48:80],
		fmt.Sprint(scalar)[1:40],
	} {
		if strings.Contains(out, form) {
			t.Errorf("private bytes were printed: %s", out)
		}
	}
	if !strings.Contains(out, key.KeyID()) {
		t.Errorf("the kid is missing: %s", out)
	}
}

func BenchmarkSign(b *testing.B) {
	payload := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte("x"), 600))
	for _, alg := range jwks.Algorithms {
		key, err := jwks.Generate(alg, 0)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(alg), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := key.Sign(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
