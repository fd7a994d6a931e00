package jwks_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
)

func readCase(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../testdata/cases", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// modulus returns an odd number of that many bits, which is as good as a modulus
// where no signature is verified.
func modulus(bits int) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return n.SetBit(n, 0, 1)
}

// The forms in which an RSA key reaches this package.
func rsaForms(t testing.TB, n, e *big.Int) map[string]string {
	t.Helper()
	encode := func(v any) []byte {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	block := func(label string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
	}
	pkcs1 := encode(struct{ N, E *big.Int }{n, e})
	one := big.NewInt(1)
	private := encode(struct {
		Version                  int
		N, E, D, P, Q, DP, DQ, I *big.Int
	}{0, n, e, one, one, one, one, one, one})
	algorithm := pkix.AlgorithmIdentifier{
		Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue,
	}
	spki := encode(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{algorithm, asn1.BitString{Bytes: pkcs1, BitLength: 8 * len(pkcs1)}})
	pkcs8 := encode(struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}{0, algorithm, private})
	number := func(i *big.Int) string { return base64.RawURLEncoding.EncodeToString(append([]byte{0}, i.Bytes()...)) }
	forms := map[string]string{
		"PKIX": block("PUBLIC KEY", spki), "PKCS #1": block("RSA PUBLIC KEY", pkcs1),
		"private PKCS #1": block("RSA PRIVATE KEY", private), "private PKCS #8": block("PRIVATE KEY", pkcs8),
		"JWKS": fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"a","n":%q,"e":%q}]}`, number(n), number(e)),
	}
	if e.IsInt64() && e.Sign() > 0 && n.Sign() > 0 {
		forms["certificate"] = block("CERTIFICATE", certificate(t, &rsa.PublicKey{N: n, E: int(e.Int64())}))
	}
	return forms
}

// certificate returns one for a key whose private half nobody has.
func certificate(t testing.TB, key *rsa.PublicKey) []byte {
	t.Helper()
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key, ca)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The rule for RSA keys is the same in every form.
func TestRSARule(t *testing.T) {
	pow := func(bits uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), bits) }
	minus := func(a *big.Int, b int64) *big.Int { return new(big.Int).Sub(a, big.NewInt(b)) }
	usual := big.NewInt(65537)
	for name, tt := range map[string]struct {
		n, e *big.Int
		want string // empty: accepted, where no private half is needed
	}{
		"the smallest":                {modulus(2048), usual, ""},
		"the largest":                 {modulus(4096), usual, ""},
		"an unusual size":             {modulus(2049), usual, ""},
		"exponent 3":                  {modulus(2048), big.NewInt(3), ""},
		"the largest exponent":        {modulus(2048), minus(pow(31), 1), ""},
		"one bit too small":           {modulus(2047), usual, "2047 bits"},
		"1024 bits":                   {modulus(1024), usual, "1024 bits"},
		"one bit too large":           {modulus(4097), usual, "4097 bits"},
		"8192 bits":                   {modulus(8192), usual, "8192 bits"},
		"16384 bits":                  {modulus(16384), usual, "16384 bits"},
		"an even modulus":             {minus(modulus(2048), 1), usual, "the modulus is even"},
		"exponent 1":                  {modulus(2048), big.NewInt(1), "exponent is 1,"},
		"exponent 2":                  {modulus(2048), big.NewInt(2), "exponent is 2,"},
		"an even exponent":            {modulus(2048), big.NewInt(65538), "exponent is 65538,"},
		"exponent 2^31+1":             {modulus(2048), minus(pow(31), -1), "exponent is 2147483649,"},
		"exponent 2^32+1":             {modulus(2048), minus(pow(32), -1), "exponent is 4294967297,"},
		"an exponent of 65 bits":      {modulus(2048), minus(pow(64), -1), "exponent is of 65 bits,"},
		"an exponent like a modulus":  {modulus(2048), minus(modulus(2048), 2), "exponent is of 2047 bits,"},
		"a modulus of zero":           {big.NewInt(0), usual, "not "},
		"an exponent of zero":         {modulus(2048), big.NewInt(0), "exponent is 0,"},
		"modulus and exponent of one": {big.NewInt(1), big.NewInt(1), "1 bits"},
	} {
		for form, data := range rsaForms(t, tt.n, tt.e) {
			c, err := jwks.ParseFile([]byte(data))
			got := ""
			if err != nil {
				got = err.Error()
			} else if len(c.Skipped) > 0 {
				got = c.Skipped[0].Error()
			}
			switch {
			case tt.want == "" && strings.HasPrefix(form, "private"):
				if !strings.Contains(got, "not a valid private key") { // the numbers are made up
					t.Errorf("%s as %s: %s", name, form, got)
				}
			case tt.want == "" && got != "", !strings.Contains(got, tt.want):
				t.Errorf("%s as %s: got %q, want %q", name, form, got, tt.want)
			case tt.want != "" && err == nil && len(c.All()) > 0:
				t.Errorf("%s as %s: accepted", name, form)
			}
		}
		if !tt.e.IsInt64() {
			continue
		}
		if _, err := jwks.NewPublicKey(&rsa.PublicKey{N: tt.n, E: int(tt.e.Int64())}); (err == nil) != (tt.want == "") {
			t.Errorf("%s: NewPublicKey returned %v", name, err)
		}
	}
}

// A point must be on its curve, in every form.
func TestCurveRule(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		params := curve.Params()
		for name, point := range map[string][2]*big.Int{
			"zero":              {new(big.Int), new(big.Int)},
			"a wrong y":         {params.Gx, new(big.Int).Add(params.Gy, big.NewInt(1))},
			"a wrong x":         {new(big.Int).Add(params.Gx, big.NewInt(1)), params.Gy},
			"too large":         {params.P, params.P},
			"the other's point": {params.Gy, params.Gx},
		} {
			//lint:ignore SA1019 a wrong point cannot be made in another way
			key := &ecdsa.PublicKey{Curve: curve, X: point[0], Y: point[1]}
			if _, err := jwks.NewPublicKey(key); err == nil {
				t.Errorf("%s, %s: accepted", params.Name, name)
			}
			size := (params.BitSize + 7) / 8
			x, y := point[0].FillBytes(make([]byte, size)), point[1].FillBytes(make([]byte, size))
			set := fmt.Sprintf(`{"keys":[{"kty":"EC","kid":"a","crv":%q,"x":%q,"y":%q}]}`, params.Name,
				base64.RawURLEncoding.EncodeToString(x), base64.RawURLEncoding.EncodeToString(y))
			keys, skipped, err := jwks.Filter([]byte(set))
			if err != nil || len(keys) > 0 || !strings.Contains(skipped[0].Error(), "not on the curve") {
				t.Errorf("%s, %s: got %v, %v, %v", params.Name, name, keys, skipped, err)
			}
		}
	}
}

// A ring of an earlier version may have a key that is refused now.
func TestUnchecked(t *testing.T) {
	_, _, err := jwks.ParsePEM(readKey(t, "rsa-8192.pem"))
	if err == nil || !strings.Contains(hint.Text(err, hint.Field), "sign with another one") {
		t.Errorf("got %v", err)
	}
	block, _ := pem.Decode(readKey(t, "rsa-8192.pem"))
	key, err := jwks.ParsePKCS8Unchecked(block.Bytes)
	if err != nil || key.Check() == nil {
		t.Fatalf("got %v, %v", key, err)
	}
	public, err := jwks.ParsePKIXUnchecked(key.PKIX())
	if err != nil || public.Check() == nil || public.KeyID() != key.KeyID() {
		t.Errorf("got %v, %v", public, err)
	}
	if _, _, err := key.Sign("e30"); err != nil {
		t.Errorf("it cannot sign: %v", err)
	}
	if _, err := jwks.ParsePKCS8(block.Bytes); err == nil {
		t.Error("ParsePKCS8 accepted it")
	}
	if _, err := jwks.ParsePKIX(key.PKIX()); err == nil {
		t.Error("ParsePKIX accepted it")
	}
	if sound := signingKey(t, "rsa-pkcs1.pem"); sound.Check() != nil {
		t.Error(sound.Check())
	}
}

// Files that others had trouble with.
func TestCases(t *testing.T) {
	const sound = "gHVH5figvpxJjwfXOfpcydECY8WcVmyNOsQcYf1NklQ"
	for name, tt := range map[string]struct {
		keys    int
		skipped string
		err     string
	}{
		"rsa-8192.pub":              {skipped: "PEM block 1 of 1 (PUBLIC KEY): RSA key of 8192 bits"},
		"rsa-exponent-1.pub":        {skipped: "the exponent is 1"},
		"good-and-1024.pub":         {keys: 1, skipped: "PEM block 2 of 2 (PUBLIC KEY): RSA key of 1024 bits"},
		"good-and-1024.json":        {keys: 1, skipped: `key 1 of the set (kid "k1"): RSA key of 1024 bits`},
		"bom-two-keys.pub":          {err: "PEM block 1 of 2 (PUBLIC KEY): a byte order mark (BOM) is before it"},
		"bom.pub":                   {err: "byte order mark"},
		"utf16.pub":                 {err: "it is UTF-16"},
		"rsassa-pss.crt":            {skipped: "RSASSA-PSS"},
		"rsa-label-around-pkix.pub": {keys: 1},
		"x5c-of-another.json":       {keys: 1},
		"leading-zero.json":         {keys: 1},
	} {
		c, err := jwks.ParseFile(readCase(t, name))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || hint.Of(err) == "" {
				t.Errorf("%s: got %v, want %q and a hint", name, err, tt.err)
			}
			continue
		}
		if err != nil || len(c.Public) != tt.keys || (len(c.Skipped) > 0) != (tt.skipped != "") {
			t.Errorf("%s: got %+v, %v", name, c, err)
			continue
		}
		if tt.skipped != "" && !strings.Contains(c.Skipped[0].Error(), tt.skipped) {
			t.Errorf("%s: skipped %v, want %q", name, c.Skipped, tt.skipped)
		}
		if tt.keys > 0 {
			again, err := jwks.ParsePKIX(c.Public[0].PKIX())
			if err != nil || again.KeyID() != sound {
				t.Errorf("%s: got key %s, %v", name, again.KeyID(), err)
			}
		}
	}
}
