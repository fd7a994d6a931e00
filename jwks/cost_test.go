package jwks_test

import (
	"bytes"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"oidc-provider/jwks"
)

// allocated returns how many bytes f allocates, garbage included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// checkCost fails if parsing data costs more than 20 times its size: the bound on what
// anyone outside can make this program allocate. Something is constant, such as what
// the runtime itself allocates meanwhile.
func checkCost(t testing.TB, what string, data []byte) {
	t.Helper()
	const constant = 64 << 10
	for _, f := range []func(){
		func() { _, _, _ = jwks.Filter(data) },
		func() { _, _ = jwks.ParseFile(data) },
	} {
		if cost, limit := allocated(f), uint64(20*len(data)+constant); cost > limit {
			t.Errorf("%s: %d bytes cost %d bytes, more than %d", what, len(data), cost, limit)
		}
	}
}

// hostile returns inputs of about a mebibyte that are cheap to send.
func hostile(t testing.TB) map[string][]byte {
	const size = 1 << 20
	fill := func(before, each, after string) []byte {
		n := (size - len(before) - len(after)) / len(each)
		return []byte(before + strings.TrimSuffix(strings.Repeat(each, n), ",") + after)
	}
	rsa, ec := jwkOf(t, "rsa-pkcs1.pem"), jwkOf(t, "ec-prime256v1.pem")
	short := strings.Replace(ec, signingKey(t, "ec-prime256v1.pem").KeyID(), "%d", 1)
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf(short, i))
	}
	inputs := map[string][]byte{
		"empty entries":    fill(`{"keys":[`, `{},`, `]}`),
		"999 entries":      []byte(`{"keys":[` + strings.Repeat(`{},`, 998) + `{}]}`),
		"numbers":          fill(`{"keys":[`, `1,`, `]}`),
		"arrays":           fill(`{"keys":[`, `[],`, `]}`),
		"deep":             []byte(`{"keys":` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `}`),
		"too deep":         fill(`{"keys":`, `[`, ``),
		"deep objects":     []byte(`{"keys":[` + strings.Repeat(`{"a":`, 9000) + `1` + strings.Repeat(`}`, 9000) + `]}`),
		"members":          fill(`{`, `"a":1,`, `,"keys":[]}`),
		"arrays of keys":   fill(`{`, `"keys":[],`, `}`),
		"one entry":        fill(`{"keys":[{`, `"a":1,`, `}]}`),
		"escaped names":    fill(`{"keys":[{`, `"\u0064x":1,`, `}]}`),
		"the same name":    fill(`{"keys":[{`, `"kid":"a",`, `}]}`),
		"private members":  fill(`{"keys":[{`, `"d":"a",`, `}]}`),
		"a long name":      fill(`{"keys":[{"`, `x`, `":1}]}`),
		"a long kid":       fill(`{"keys":[{"kty":"RSA","kid":"`, `x`, `"}]}`),
		"an escaped kid":   fill(`{"keys":[{"kty":"RSA","kid":"`, `\u0061`, `"}]}`),
		"a long modulus":   fill(`{"keys":[{"kty":"RSA","e":"AQAB","kid":"a","n":"`, `A`, `"}]}`),
		"operations":       fill(`{"keys":[{"kty":"RSA","kid":"a","key_ops":[`, `"a",`, `]}]}`),
		"sound keys":       []byte(`{"keys":[` + strings.Join(many, ",") + `]}`),
		"one key often":    fill(`{"keys":[`, rsa+`,`, `]}`),
		"BEGIN":            fill("", "-----BEGIN ", ""),
		"BEGIN lines":      fill("", "-----BEGIN A-----\n", ""),
		"empty blocks":     fill("", "-----BEGIN A-----\n-----END A-----\n", ""),
		"999 empty blocks": []byte(strings.Repeat("-----BEGIN A-----\n-----END A-----\n", 999)),
		"parameters":       []byte(strings.Repeat("-----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n", 999)),
		"X25519":           bytes.Repeat([]byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAhSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n-----END PUBLIC KEY-----\n"), 999),
		"secp256k1":        bytes.Repeat([]byte("-----BEGIN PUBLIC KEY-----\nMDYwEAYHKoZIzj0CAQYFK4EEAAoDIgACeb5mfvncu6xVoGKVzocLBwKb/NstzijZWfKBWxb4F5g=\n-----END PUBLIC KEY-----\n"), 999),
		"nameless":         bytes.Repeat([]byte("-----BEGIN KEY-----\nMBUwDgYHKoZIzj0CATADAgEBAwMABAA=\n-----END KEY-----\n"), 999),
		"one block":        fill("-----BEGIN PUBLIC KEY-----\n", "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n", "-----END PUBLIC KEY-----\n"),
		"headers":          fill("-----BEGIN PUBLIC KEY-----\n", "a: b\n", "\n-----END PUBLIC KEY-----\n"),
		"public keys":      bytes.Repeat(readKey(t, "rsa-public.pem"), 999),
		"curves":           bytes.Repeat(readKey(t, "ec-prime256v1-public.pem"), 999),
		"certificates":     bytes.Repeat(readKey(t, "rsa-certificate.pem"), 900),
		"private keys":     bytes.Repeat(readKey(t, "rsa-pkcs1.pem"), 10),
		"zeros":            make([]byte, size),
		"hyphens":          fill("", "-", ""),
		"line ends":        fill("", "\n", ""),
		"open brackets":    fill("", "[", ""),
	}
	for form, data := range rsaForms(t, new(big.Int).Lsh(big.NewInt(1), 8*40<<10), big.NewInt(3)) {
		inputs["a huge key as "+form] = []byte(data)
	}
	return inputs
}

func TestCost(t *testing.T) {
	for name, data := range hostile(t) {
		checkCost(t, name, data)
	}
}

// BenchmarkHostile shows the cost of the set that used to be the most expensive one.
func BenchmarkHostile(b *testing.B) {
	for _, name := range []string{"empty entries", "999 entries", "sound keys", "one entry"} {
		data := hostile(b)[name]
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = jwks.Filter(data)
			}
		})
	}
}
