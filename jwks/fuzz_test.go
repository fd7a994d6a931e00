package jwks_test

import (
	"bytes"
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
	f.Fuzz(func(t *testing.T, data []byte) {
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

// What ParsePEM accepts is usable, and a private key survives PKCS #8.
func FuzzParsePEM(f *testing.F) {
	for _, name := range []string{
		"rsa-pkcs1.pem", "rsa-pkcs8.pem", "rsa-public.pem", "rsa-public-pkcs1.pem", "rsa-certificate.pem",
		"rsa-encrypted.pem", "ec-prime256v1.pem", "ec-secp521r1-public.pem", "ed25519.pem",
	} {
		f.Add(readKey(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		private, public, err := jwks.ParsePEM(data)
		if err != nil {
			return
		}
		for _, k := range private {
			der, err := k.PKCS8()
			if err != nil {
				t.Fatal(err)
			}
			again, err := jwks.ParsePKCS8(der)
			if err != nil || again.KeyID() != k.KeyID() {
				t.Fatalf("%v became %v, %v", k, again, err)
			}
			public = append(public, k.PublicKey)
		}
		if _, err := jwks.Marshal(public); err != nil {
			t.Fatal(err)
		}
	})
}
