package check

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"oidc-provider/discovery"
	"oidc-provider/jwks"
)

const issuer = "https://oidc.example.com"

var all = List()

// observed is what observe makes of such answers, without asking anybody.
func observed(raw string, configuration, keySet Answer, token string) *Observation {
	o := &Observation{Options: Options{Issuer: raw, Parties: PartyNames()}, Time: time.Now()}
	o.Options, _ = o.Options.withDefaults()
	document := func(url string, a Answer) Document {
		d := Document{URL: url, Addresses: []string{"192.0.2.7:443"}, Answers: []Answer{a, a}, HTTP10: &a}
		if a.good() {
			d.Body = a.Body
		}
		return d
	}
	o.Issuer, o.IssuerErr = discovery.ParseIssuer(raw)
	if o.IssuerErr == nil {
		o.Discovery = document(o.Issuer.DiscoveryURL(), configuration)
	}
	if o.Discovery.Body != nil {
		o.Metadata, o.metadataErr = parseMetadata(o.Discovery.Body)
		if checkJWKSURI(o.Issuer, o.Metadata.JWKSURI) == nil {
			o.KeySet = document(o.Metadata.JWKSURI, keySet)
		}
	}
	if o.KeySet.Body != nil {
		o.JWKs, o.keySetErr = parseKeySet(o.KeySet.Body)
	}
	if token != "" {
		o.observeToken(token)
	}
	return o
}

// sane fails t unless what is said of o makes sense as such.
func sane(t *testing.T, o *Observation) map[string]Status {
	t.Helper()
	report := judge(o)
	order := all
	statuses := map[string]Status{}
	for _, r := range report.Results {
		i := slices.IndexFunc(order, func(c Check) bool { return c.ID == r.Check })
		if i < 0 {
			t.Fatalf("%+v: not in the list, or not in its order", r)
		}
		order = order[i+1:]
		statuses[r.Check] = r.Status
		bad := r.Status == Warn || r.Status == Fail
		if !bad && r.Status != Pass && r.Status != Skip || r.Seen == "" || bad != (r.Why != "") || bad != (r.Do != "") {
			t.Errorf("%+v: something is missing, or too much", r)
		}
		for _, party := range r.For {
			if _, ok := PartyByName(party); !ok {
				t.Errorf("%+v: whom does that concern?", r)
			}
		}
		for _, s := range []string{r.Seen, r.Why, r.Do} {
			if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(s) || len(s) > 3000 {
				t.Errorf("%s: not fit to be printed: %q", r.Check, s)
			}
		}
	}
	if diff := cmp.Diff(report.Results, judge(o).Results); diff != "" {
		t.Errorf("said differently the second time:\n%s", diff)
	}
	if len(order) == len(all) {
		t.Error("nothing was said")
	}
	return statuses
}

func answer(header, body string) Answer {
	a := Answer{Address: "192.0.2.7:443", Status: 200, Header: map[string][]string{"Content-Type": {"application/json"}, "Cache-Control": {"max-age=300"}}, Body: []byte(body), Latency: 1}
	for line := range strings.Lines(header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		a.Header[name] = append(a.Header[name], value)
	}
	return a
}

func fuzzKey(f *testing.F, name string) *jwks.SigningKey {
	f.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "keys", name))
	if err != nil {
		f.Fatal(err)
	}
	keys, _, err := jwks.ParsePEM(data)
	if err != nil {
		f.Fatal(err)
	}
	return keys[0]
}

func soundDocuments(f *testing.F, keys ...jwks.PublicKey) (configuration, keySet string) {
	f.Helper()
	i, err := discovery.ParseIssuer(issuer)
	if err != nil {
		f.Fatal(err)
	}
	c, err := discovery.New(i, jwks.AlgorithmNames()).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	k, err := jwks.Marshal(keys)
	if err != nil {
		f.Fatal(err)
	}
	return string(c), string(k)
}

// A discovery document in which nothing is wrong is one that go-oidc would
// take.
func FuzzDiscovery(f *testing.F) {
	sound, keySet := soundDocuments(f, fuzzKey(f, "rsa-pkcs8.pem").PublicKey)
	for _, body := range []string{sound, "", "null", "[]", "{", "\xef\xbb\xbf{}", `{"issuer":7,"jwks_uri":[],"response_types_supported":[null]}`,
		`{"issuer":"https://oidc.example.com","ISSUER":"x","jwks_uri":"http://[::1%25lo]:1/"}`, strings.Replace(sound, "RS256", "none", 1)} {
		f.Add(issuer, body)
	}
	f.Add("https://OIDC.example.com:8443/A/", sound)
	f.Add("http://localhost", strings.ReplaceAll(sound, issuer, "http://localhost"))
	f.Fuzz(func(t *testing.T, raw, body string) {
		checkCost(t, "this", []byte(body))
		got := sane(t, observed(raw, answer("", body), answer("", keySet), ""))
		for _, check := range []string{"issuer/url", "discovery/json", "discovery/issuer", "discovery/jwks_uri", "discovery/members"} {
			if got[check] != Pass {
				return
			}
		}
		var provider struct {
			Issuer     string   `json:"issuer"`
			JWKSURL    string   `json:"jwks_uri"`
			Algorithms []string `json:"id_token_signing_alg_values_supported"`
		}
		if err := json.Unmarshal([]byte(body), &provider); err != nil || provider.Issuer != raw || provider.JWKSURL == "" || len(provider.Algorithms) == 0 {
			t.Errorf("nothing is wrong, and a relying party reads %+v, %v", provider, err)
		}
	})
}

// A key set in which nothing is wrong is one that go-jose takes, which refuses
// a set for one bad key, and so do Vault and kube-apiserver.
func FuzzKeySet(f *testing.F) {
	rsa, ec := fuzzKey(f, "rsa-pkcs8.pem").PublicKey, fuzzKey(f, "ec-prime256v1.pem").PublicKey
	sound, keySet := soundDocuments(f, rsa, ec)
	for _, body := range []string{keySet, "", "null", "{}", `{"keys":null}`, `{"keys":[]}`, `{"keys":[null,7,[],{}]}`, `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + strings.Repeat("A", 43) + `","kid":"e"}]}`, `{"keys":[{"kty":"oct","k":"AA"}]}`,
		strings.Replace(keySet, `"sig"`, `"enc"`, 1), strings.Replace(keySet, `"kid"`, `"x5t":"AAAA","kid"`, 1), strings.Replace(keySet, `"kid"`, `"KID":"x","kid"`, 1),
		strings.Replace(keySet, `"AQAB"`, `"AQ"`, 1), strings.ReplaceAll(keySet, "RS256", "RSA-OAEP")} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		checkCost(t, "this", []byte(body))
		got := sane(t, observed(issuer, answer("", sound), answer("", body), ""))
		for check, status := range got {
			if strings.HasPrefix(check, "jwks/") && (status == Fail || status == Skip && check == "jwks/kty") {
				return
			}
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal([]byte(body), &set); err != nil || len(set.Keys) == 0 {
			t.Errorf("nothing is wrong, and go-jose reads %d keys, %v", len(set.Keys), err)
		}
		for _, k := range set.Keys {
			if !k.IsPublic() || !k.Valid() || k.KeyID == "" {
				t.Errorf("nothing is wrong with %+v", k)
			}
		}
	})
}

// No header has a judgement of no sense.
func FuzzHeaders(f *testing.F) {
	sound, keySet := soundDocuments(f, fuzzKey(f, "rsa-pkcs8.pem").PublicKey)
	for _, header := range []string{"Cache-Control: s-maxage=1, stale-while-revalidate=99999999999", "Expires: 0", "Expires: Thu, 01 Jan 2099 00:00:00 GMT\nCache-Control: private",
		"Content-Type: application/json; charset=\"\x1b\"", "Content-Encoding: br", "Location: \u202e", "Last-Modified: x\nCache-Control: ", "Cache-Control: max-age=\"", "Cache-Control: =\x00,,"} {
		f.Add(header, 200)
		f.Add(header, 302)
	}
	f.Fuzz(func(t *testing.T, header string, status int) {
		a, k := answer(header, sound), answer(header, keySet)
		delete(a.Header, "Cache-Control")
		a.Status, k.Status = status, status
		sane(t, observed(issuer, a, k, ""))
	})
}

// No text that is no token of the key has a good signature, or is printed.
func FuzzToken(f *testing.F) {
	key := fuzzKey(f, "ec-prime256v1.pem")
	sound, keySet := soundDocuments(f, key.PublicKey)
	good := signed(f, key, fmt.Sprintf(`{"iss":%q,"aud":"a","exp":9e9,"iat":1,"sub":"system:serviceaccount:a:b"}`, issuer))
	header, rest, _ := strings.Cut(good, ".")
	_, signature, _ := strings.Cut(rest, ".")
	other := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://oidc.example.com","sub":"root"}`))
	for _, raw := range []string{good, header + "." + other + "." + signature, "", ".", "..", "...", "a.b.c", good + ".", "e30.e30.", "bnVsbA.bnVsbA.", strings.ToUpper(good), good[:len(good)-1]} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got := sane(t, observed(issuer, answer("", sound), answer("", keySet), raw))
		if got["token/signature"] != Pass {
			return
		}
		parts, want := strings.Split(raw, "."), strings.Split(good, ".")
		if parts[0] != want[0] || parts[1] != want[1] {
			t.Errorf("somebody has signed %s", raw)
		}
	})
}

// Claims in which nothing is wrong are those of a token that go-oidc takes.
func FuzzClaims(f *testing.F) {
	key := fuzzKey(f, "ec-prime256v1.pem")
	sound, keySet := soundDocuments(f, key.PublicKey)
	now := time.Now().Unix()
	base := fmt.Sprintf(`{"iss":%q,"aud":["a"],"exp":%d,"iat":%d,"nbf":%d,"sub":"system:serviceaccount:a:b"}`, issuer, now+1e6, now, now)
	for _, claims := range []string{base, "{}", "null", `{"aud":{},"exp":"1","iat":[],"nbf":null,"sub":7}`, strings.Replace(base, `["a"]`, `"a"`, 1), strings.Replace(base, `"nbf"`, `"NBF":9e9,"nbf"`, 1),
		strings.Replace(base, `"nbf":`, `"nbf":1e400,"x":`, 1), strings.Replace(base, `"exp":`, `"exp":1e300,"x":`, 1), strings.Replace(base, `"nbf":`, `"nbf":"x","x":`, 1), strings.Replace(base, `"aud"`, `"AUD"`, 1)} {
		f.Add(claims)
	}
	f.Fuzz(func(t *testing.T, claims string) {
		raw := signed(t, key, claims)
		got := sane(t, observed(issuer, answer("", sound), answer("", keySet), raw))
		for check, status := range got {
			if strings.HasPrefix(check, "token/") && status == Fail && check != "token/azure" && check != "token/lua-resty-openidc" && check != "token/spring" {
				return
			}
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(claims), &members); err != nil {
			t.Fatalf("nothing is wrong with %q", claims)
		}
		for name := range maps.Keys(members) {
			// Some mean nothing in a token of a ServiceAccount, and others
			// nothing at all but to a decoder that takes them for theirs.
			folded := strings.ToLower(strings.ToUpper(name))
			if slices.Contains([]string{"nonce", "at_hash", "_claim_names", "_claim_sources"}, folded) ||
				folded != name && slices.Contains([]string{"iss", "sub", "aud", "exp", "iat", "nbf"}, folded) {
				return
			}
		}
		verifier := oidc.NewVerifier(issuer, &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{key.Key()}}, &oidc.Config{SkipClientIDCheck: true, SupportedSigningAlgs: []string{"ES256"}})
		if _, err := verifier.Verify(context.Background(), raw); err != nil {
			t.Errorf("nothing is wrong with %q, and go-oidc says %v", claims, err)
		}
	})
}

func signed(t testing.TB, key *jwks.SigningKey, claims string) string {
	t.Helper()
	payload := base64.RawURLEncoding.EncodeToString([]byte(claims))
	header, signature, err := key.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	return header + "." + payload + "." + signature
}
