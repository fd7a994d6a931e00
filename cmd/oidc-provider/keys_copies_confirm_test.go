package main

import (
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

func copiedRing(t testing.TB) *rotation.Ring {
	t.Helper()
	r, err := rotation.New("https://oidc.example.test", rotation.Policy{Algorithm: jose.ES256}, time.Now(), rotation.GenerateKey)
	if err == nil {
		r, _, err = rotation.AddCopy(r, "google", time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keySet(t testing.TB, keys ...jwks.PublicKey) string {
	t.Helper()
	data, err := jwks.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func publicPEM(keys ...jwks.PublicKey) (text string) {
	for _, key := range keys {
		text += string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key.PKIX()}))
	}
	return text
}

func jsonText(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// What a copy really holds decides what is confirmed, in every format.
func TestHeld(t *testing.T) {
	r := copiedRing(t)
	active, next := r.Keys[0].PublicKey(), r.Keys[1].PublicKey()
	foreign, err := jwks.Generate(jose.ES256, 0)
	if err != nil {
		t.Fatal(err)
	}
	both := keySet(t, active, next)
	google := func(jwks string) string {
		return jsonText(t, map[string]any{"name": "x", "oidc": map[string]any{"issuerUri": r.Issuer, "jwksJson": jwks}})
	}
	vault := func(pem ...string) string {
		return jsonText(t, map[string]any{"data": map[string]any{"bound_issuer": r.Issuer, "jwt_validation_pubkeys": pem}})
	}
	rename := func(set string, from, to jwks.PublicKey) string {
		return strings.ReplaceAll(set, from.KeyID(), to.KeyID())
	}
	for name, tt := range map[string]struct {
		data string
		has  []jwks.PublicKey // nil if that is an error
		want string           // in the error or the warnings
	}{
		"a key set":                     {both, []jwks.PublicKey{active, next}, ""},
		"Google":                        {google(both), []jwks.PublicKey{active, next}, ""},
		"Vault":                         {vault(publicPEM(active), publicPEM(next)), []jwks.PublicKey{active, next}, ""},
		"PEM":                           {publicPEM(next, active), []jwks.PublicKey{active, next}, ""},
		"the next key alone":            {keySet(t, next), []jwks.PublicKey{next}, "does not have key " + active.KeyID() + ", which signs"},
		"the next key is missing":       {keySet(t, active), nil, "does not have key " + next.KeyID() + ", which is next"},
		"nothing":                       {`{"keys":[]}`, nil, "nothing was confirmed"},
		"the next key under other kid":  {rename(both, next, foreign.PublicKey), nil, "does not have key " + next.KeyID()},
		"another key under its kid":     {rename(keySet(t, active, foreign.PublicKey), foreign.PublicKey, next), nil, "does not have key " + next.KeyID()},
		"one more":                      {keySet(t, active, next, foreign.PublicKey), []jwks.PublicKey{active, next}, "never in the ring"},
		"one of an unknown type":        {strings.Replace(both, `[`, `[{"kty":"XX","kid":"x"},`, 1), []jwks.PublicKey{active, next}, "relying parties ignore"},
		"a private key in a set":        {strings.Replace(both, `"kty"`, `"d":"AAAA","kty"`, 1), nil, "private"},
		"a private key in PEM":          {testKey(t, "rsa-pkcs1.pem"), nil, "anyone who can read the copy can sign"},
		"Google that fetches":           {google(""), nil, "Google Cloud fetches them"},
		"Vault that fetches":            {vault(), nil, "Vault fetches them"},
		"other JSON":                    {`{"hello":1}`, nil, "no array named keys"},
		"half of it":                    {both[:len(both)-1], nil, "not a complete JSON"},
		"nothing at all":                {"", nil, "no key found"},
		"Google with something else in": {google("<html>"), nil, "parsing key set"},
	} {
		said, has := "", []string(nil)
		h, err := parseHeld([]byte(tt.data))
		if err == nil {
			c := h.compare(r, time.Now())
			cmd := newKeysCopiesConfirmCommand()
			var stderr strings.Builder
			cmd.SetErr(&stderr)
			c.warn(cmd, "google")
			said = stderr.String()
			has, err = c.confirm("google", nil)
		}
		var want []string
		for _, key := range tt.has {
			want = append(want, key.KeyID())
		}
		if err != nil {
			has, said = nil, said+err.Error()
		}
		if !slices.Equal(has, want) || !strings.Contains(said, tt.want) || tt.want == "" && said != "" {
			t.Errorf("%s: confirms %v, want %v; says %q, want %q", name, has, want, said, tt.want)
		}
	}
}

// Whatever a copy holds, the key set falls into what is there and what is not.
func FuzzHeld(f *testing.F) {
	r := copiedRing(f)
	set := keySet(f, r.Keys[0].PublicKey(), r.Keys[1].PublicKey())
	f.Add([]byte(set))
	f.Add([]byte(jsonText(f, map[string]any{"oidc": map[string]any{"jwksJson": set}})))
	f.Add([]byte(jsonText(f, map[string]any{"data": map[string]any{"jwt_validation_pubkeys": []string{publicPEM(r.Keys[1].PublicKey())}}})))
	f.Add([]byte(publicPEM(r.Keys[0].PublicKey())))
	f.Add([]byte(testKey(f, "rsa-certificate.pem")))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHeld(data)
		if err != nil {
			return
		}
		c := h.compare(r, time.Now())
		if got := len(c.has) + len(c.lacks); got != 2 {
			t.Fatalf("%d keys are there or not, want 2", got)
		}
		if _, err := c.confirm("google", nil); (err == nil) != slices.Contains(c.has, r.Keys[1].KeyID) {
			t.Fatalf("it has %v, and %v", c.has, err)
		}
	})
}

// Whoever names the next key has brought the key set with it, and nothing that
// has come since.
func TestConfirmByKID(t *testing.T) {
	r := copiedRing(t)
	active, next := r.Keys[0].KeyID, r.Keys[1].KeyID
	later, err := jwks.Generate(jose.ES256, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err = rotation.ImportVerifying(r, later.PublicKey, false, r.Updated.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ given, want []string }{
		"the next key":   {[]string{next}, []string{active, next}},
		"the active key": {[]string{active}, []string{active}},
		"a later key":    {[]string{later.KeyID()}, []string{later.KeyID()}},
		"an unknown key": {[]string{"nobody"}, []string{"nobody"}}, // ConfirmCopy refuses it
	} {
		a := confirmation{name: "google", kids: tt.given}
		if got, err := a.said(r, r.Updated); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, tt.want)
		}
	}
	a := confirmation{name: "google", command: "confirm google"}
	if _, err := a.said(r, r.Updated); err == nil || !strings.Contains(hint.Of(err), "`confirm google "+next+"`") {
		t.Errorf("no key: got %v, want a hint that names the next one", err)
	}
}
