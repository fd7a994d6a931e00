package publish_test

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/publish"
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

func testKey(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "keys", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The content of a copy decides what is confirmed, in every format.
func TestContent(t *testing.T) {
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
		t.Run(name, func(t *testing.T) {
			var messages []string
			var got, want []string
			content, err := publish.ParseContent([]byte(tt.data))
			if err == nil {
				c := content.Compare(r, time.Now())
				for _, w := range c.Warnings("google") {
					messages = append(messages, w.Error())
				}
				got, err = c.Confirmable("google", nil)
			}
			if err != nil {
				messages = append(messages, err.Error())
			}
			for _, key := range tt.has {
				want = append(want, key.KeyID())
			}
			message := strings.Join(messages, "\n")
			if !slices.Equal(got, want) || !strings.Contains(message, tt.want) || tt.want == "" && message != "" {
				t.Errorf("confirms %v, want %v; says %q, want %q", got, want, message, tt.want)
			}
		})
	}
}

// An operator who names the next key has updated the copy with the key set that has it,
// and not with later keys.
func TestKeysUpTo(t *testing.T) {
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
	for name, tt := range map[string]struct {
		given string
		want  []string
	}{
		"the next key":   {next, []string{active, next}},
		"the active key": {active, []string{active}},
		"a later key":    {later.KeyID(), []string{later.KeyID()}},
		"an unknown key": {"unknown", []string{"unknown"}}, // ConfirmCopy refuses it
	} {
		if got := publish.KeysUpTo(r, tt.given, r.Updated); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// A confirmed key that is missing is withdrawn, with the plan for it.
func TestWithdraw(t *testing.T) {
	r := copiedRing(t)
	active, next := r.Keys[0], r.Keys[1]
	r, err := rotation.ConfirmCopy(r, "google", r.Updated, active.KeyID, next.KeyID)
	if err != nil {
		t.Fatal(err)
	}
	content, err := publish.ParseContent([]byte(keySet(t, active.PublicKey())))
	if err != nil {
		t.Fatal(err)
	}
	c := content.Compare(r, r.Updated)
	changed, err := c.Withdraw(r, "google", r.Updated)
	if err != nil || !c.LostNextKey() || !slices.Equal(c.Lost, []string{next.KeyID}) {
		t.Fatalf("lost %v, %v; want the next key, %s", c.Lost, err, next.KeyID)
	}
	for _, k := range changed.Keys {
		if confirmed := !k.CopyConfirmedAt["google"].IsZero(); confirmed != (k.KeyID == active.KeyID) {
			t.Errorf("key %s: confirmed %v", k.KeyID, confirmed)
		}
	}
	if err := c.MissingNextKey("google"); !strings.Contains(hint.Of(err), publish.KeySetURL(r)) {
		t.Errorf("got %v, want a hint with the URL of the key set", err)
	}
}

// Whatever a copy contains, it is never confirmed that it has a next key that is not
// in it, and nothing fails.
func FuzzParseContent(f *testing.F) {
	r := copiedRing(f)
	set := keySet(f, r.Keys[0].PublicKey(), r.Keys[1].PublicKey())
	f.Add([]byte(set))
	f.Add([]byte(jsonText(f, map[string]any{"oidc": map[string]any{"jwksJson": set}})))
	f.Add([]byte(jsonText(f, map[string]any{"data": map[string]any{"jwt_validation_pubkeys": []string{publicPEM(r.Keys[1].PublicKey())}}})))
	f.Add([]byte(publicPEM(r.Keys[0].PublicKey())))
	f.Add([]byte(testKey(f, "rsa-certificate.pem")))
	f.Fuzz(func(t *testing.T, data []byte) {
		content, err := publish.ParseContent(data)
		if err != nil {
			return
		}
		c := content.Compare(r, time.Now())
		c.Warnings("google")
		kids, err := c.Confirmable("google", nil)
		if err == nil && !slices.Contains(kids, r.Keys[1].KeyID) {
			t.Fatalf("the copy may confirm %v, without the next key", kids)
		}
		for _, kid := range kids {
			if kid != r.Keys[0].KeyID && kid != r.Keys[1].KeyID {
				t.Fatalf("the copy may confirm %q, which is not in the ring", kid)
			}
		}
	})
}
