package jwks_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"oidc-provider/jwks"
)

// What Parse accepts, Marshal renders and Parse reads again as the same.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"rsa-pkcs1.pem", "ec-prime256v1.pem", "ec-secp521r1.pem"} {
		data, err := jwks.Marshal([]jwks.PublicKey{signingKey(f, name).PublicKey})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := jwks.Parse(data)
		if err != nil {
			return
		}
		again, err := jwks.Marshal(keys)
		if err != nil {
			t.Fatalf("parsed but cannot be rendered: %v", err)
		}
		back, err := jwks.Parse(again)
		if err != nil || len(back) != len(keys) {
			t.Fatalf("rendered but cannot be parsed: %v\n%s", err, again)
		}
		for i := range keys {
			if !bytes.Equal(keys[i].PKIX(), back[i].PKIX()) {
				t.Fatalf("key %d changed", i)
			}
		}
	})
}

// What Filter passes, Marshal renders and Parse reads as the same.
func FuzzFilter(f *testing.F) {
	rsa, ec := jwkOf(f, "rsa-pkcs1.pem"), jwkOf(f, "ec-prime256v1.pem")
	for _, keys := range []string{
		"", rsa, rsa + "," + ec, rsa + "," + rsa, `{"kty":"oct","k":"AAAA","kid":"x"},` + ec, `{"kty":"new"},null,[],` + ec,
	} {
		f.Add([]byte(`{"keys":[` + keys + `]}`))
	}
	for _, data := range hostile(f) {
		f.Add(data[:min(len(data), 4096)])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkCost(t, "this", data)
		checkPrivate(t, data)
		keys, _, err := jwks.Filter(data)
		if err != nil {
			return
		}
		again, err := jwks.Marshal(keys)
		if err != nil {
			t.Fatalf("passed but cannot be rendered: %v", err)
		}
		back, err := jwks.Parse(again)
		if err != nil || len(back) != len(keys) {
			t.Fatalf("rendered but cannot be parsed: %v\n%s", err, again)
		}
		for i := range keys {
			if keys[i].KeyID() != back[i].KeyID() || !bytes.Equal(keys[i].PKIX(), back[i].PKIX()) {
				t.Fatalf("key %d changed", i)
			}
		}
	})
}

// checkPrivate fails if Filter passes a set in which encoding/json finds a private
// key.
func checkPrivate(t *testing.T, data []byte) {
	var set struct{ Keys []map[string]json.RawMessage }
	_, _, err := jwks.Filter(data)
	if err != nil || json.Unmarshal(data, &set) != nil {
		return
	}
	for _, key := range set.Keys {
		for _, member := range []string{"d", "p", "q", "dp", "dq", "qi", "k", "priv"} {
			if _, there := key[member]; there {
				t.Fatalf("passed with the member %q: %s", member, data)
			}
		}
	}
}

// What ParseFile accepts is usable, and a private key survives PKCS #8. ParsePEM
// accepts the same, if nothing was skipped.
func FuzzParseFile(f *testing.F) {
	for _, name := range []string{
		"rsa-pkcs1.pem", "rsa-pkcs8.pem", "rsa-public.pem", "rsa-public-pkcs1.pem", "rsa-certificate.pem",
		"rsa-encrypted.pem", "ec-prime256v1.pem", "ec-secp521r1-public.pem", "ed25519.pem", "rsa-1024.pem",
	} {
		f.Add(readKey(f, name))
	}
	for _, name := range []string{"bom-two-keys.pub", "utf16.pub", "rsassa-pss.crt", "good-and-1024.pub", "x5c-of-another.json"} {
		f.Add(readCase(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkCost(t, "this", data)
		c, err := jwks.ParseFile(data)
		private, public, strictErr := jwks.ParsePEM(data)
		if strictErr == nil && (err != nil || len(private) != len(c.Private) || len(public) != len(c.Public)) {
			t.Fatalf("ParsePEM found %d and %d keys, ParseFile %+v, %v", len(private), len(public), c, err)
		}
		if err != nil {
			return
		}
		for _, k := range c.Private {
			der, err := k.PKCS8()
			if err != nil {
				t.Fatal(err)
			}
			again, err := jwks.ParsePKCS8(der)
			if err != nil || again.KeyID() != k.KeyID() {
				t.Fatalf("%v became %v, %v", k, again, err)
			}
		}
		for _, k := range c.All() {
			if err := k.Check(); err != nil {
				t.Fatal(err)
			}
			again, err := jwks.ParsePKIX(k.PKIX())
			if err != nil || !bytes.Equal(again.PKIX(), k.PKIX()) {
				t.Fatalf("%s became %v, %v", k.KeyID(), again, err)
			}
		}
		if _, err := jwks.Marshal(c.All()); err != nil {
			t.Fatal(err)
		}
	})
}
