package check_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/check"
	"oidc-provider/jwks"
)

// A forged token is a sound one until a test changes it.
type forged struct {
	header, claims map[string]any // a nil value takes a member out
	key            *jwks.SigningKey
	change         func(token string) string // nil leaves it as it is
	// replace is a text in the JSON, and what is there instead when it is signed.
	replace [2]string
}

func (r *rig) forge() *forged {
	now := time.Now().Unix()
	return &forged{
		header: map[string]any{"alg": string(r.signing.Algorithm()), "kid": r.signing.KeyID(), "typ": "JWT"},
		claims: map[string]any{
			"aud": []string{"sts.amazonaws.com"}, "exp": now + 3600, "iat": now, "nbf": now, "iss": r.issuer,
			"jti": "7be8b5a1-3e42-4f6c-8f3e-0d7c2a7b6f10", "sub": "system:serviceaccount:shop:till",
			"kubernetes.io": map[string]any{"namespace": "shop", "serviceaccount": map[string]any{"name": "till", "uid": "2301"}},
		},
		key: r.signing,
	}
}

func (f *forged) sign(t testing.TB) string {
	t.Helper()
	part := func(members map[string]any) string {
		maps.DeleteFunc(members, func(_ string, v any) bool { return v == nil })
		data, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(data), f.replace[0], f.replace[1], 1)))
	}
	token := part(f.header) + "." + part(f.claims)
	token += "." + base64.RawURLEncoding.EncodeToString(f.signature(t, token))
	if f.change != nil {
		token = f.change(token)
	}
	return token
}

// signature is that which the header says, so far as the key can make it.
func (f *forged) signature(t testing.TB, input string) []byte {
	t.Helper()
	switch f.header["alg"] {
	case "none":
		return nil
	case "HS256": // with the public key as the secret
		mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: f.key.PKIX()}))
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
	private := privateHalf(t, f.key)
	digest := sha256.Sum256([]byte(input))
	var signature []byte
	var err error
	switch key := private.(type) {
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, key, digest[:])
		if signature, err = make([]byte, 64), e; err == nil {
			r.FillBytes(signature[:32])
			s.FillBytes(signature[32:])
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func privateHalf(t testing.TB, key *jwks.SigningKey) any {
	t.Helper()
	der, err := key.PKCS8()
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

// x5c is a certificate of the signing key, as it stands in a JWK.
func (r *rig) x5c() []string {
	r.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, r.signing.Key(), privateHalf(r, r.signing))
	if err != nil {
		r.Fatal(err)
	}
	return []string{base64.StdEncoding.EncodeToString(der)}
}

// otherKey is one that the rig does not have.
var otherKey = sync.OnceValue(func() *jwks.SigningKey {
	key, err := jwks.Generate(jose.RS256, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func TestSoundTokenPasses(t *testing.T) {
	for _, p := range check.Parties {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.options.Parties = []string{p.Name}
			f := r.forge()
			r.options.Audience = "demo"
			if p.Audience != "" {
				r.options.Audience = p.Audience
			}
			f.claims["aud"] = r.options.Audience
			r.options.Token = f.sign(t)
			report, err := r.check()
			if err != nil {
				t.Fatal(err)
			}
			if n := report.Count(check.Warn) + report.Count(check.Fail); n > 0 {
				t.Errorf("%d warnings and failures: %+v", n, report.Results)
			}
			if first := report.Results[len(report.Results)-1]; !strings.HasPrefix(first.Check, "token/") {
				t.Error("nothing was said of the token")
			}
		})
	}
}

// Each row is one thing that is wrong with a token for AWS, or for the party
// that the row names, and the first check that must say so.
var tokenFaults = map[string]struct {
	check  string
	status check.Status // default Fail
	plant  func(*rig, *forged)
}{
	"no JWT":                    {check: "token/form", plant: changed(func(string) string { return "s3cr3t-0p4que-t0k3n" })},
	"an encrypted JWT":          {check: "token/form", plant: changed(func(s string) string { return s + ".QUFBQUFBQUE.QUFBQUFBQUE" })},
	"a JWT without a signature": {check: "token/form", plant: changed(func(s string) string { return s[:strings.LastIndexByte(s, '.')] })},
	"padded base64":             {check: "token/form", plant: changed(func(s string) string { h, rest, _ := strings.Cut(s, "."); return h + "==." + rest })},
	"claims that are a list":    {check: "token/form", plant: changed(withClaims(`["system:serviceaccount:shop:till"]`))},
	"claims that are null":      {check: "token/form", plant: changed(withClaims(`null`))},
	"claims that stand twice":   {check: "token/form", plant: changed(withClaims(`{"iss":"https://oidc.example.com","sub":"a","sub":"b","aud":"c"}`))},
	"a token of 100 KiB":        {check: "token/form", plant: func(_ *rig, f *forged) { f.claims["more"] = strings.Repeat("m", 100<<10) }},
	"alg none":                  {check: "token/header", plant: func(_ *rig, f *forged) { f.header["alg"] = "none" }},
	"alg None":                  {check: "token/header", plant: func(_ *rig, f *forged) { f.header["alg"] = "None" }},
	"no alg":                    {check: "token/header", plant: func(_ *rig, f *forged) { f.header["alg"] = nil }},
	"alg that is a number":      {check: "token/form", plant: func(_ *rig, f *forged) { f.header["alg"] = 256 }},
	"HS256 by the public key":   {check: "token/header", plant: func(_ *rig, f *forged) { f.header["alg"] = "HS256" }},
	"a header with jku":         {check: "token/header", plant: func(_ *rig, f *forged) { f.header["jku"] = "https://keys.example.com/keys" }},
	"a header with x5u":         {check: "token/header", plant: func(_ *rig, f *forged) { f.header["x5u"] = "https://keys.example.com/keys" }},
	"a header with x5c":         {check: "token/header", plant: func(_ *rig, f *forged) { f.header["x5c"] = []string{"MIIB"} }},
	"a header with jwk":         {check: "token/header", plant: func(r *rig, f *forged) { f.header["jwk"] = jwk(r, r.signing.PublicKey) }},
	"a header with crit":        {check: "token/header", plant: func(_ *rig, f *forged) { f.header["crit"] = []string{"b64"}; f.header["b64"] = false }},
	"jku among others": {check: "token/header", plant: func(_ *rig, f *forged) {
		f.header["jku"], f.header["a"], f.header["x5t"], f.header["z"] = "x", 1, "y", 2
	}},
	"a header with something else": {check: "token/header", status: check.Warn, plant: func(_ *rig, f *forged) { f.header["x5t"] = "AAAA" }},
	"no kid":                       {check: "token/kid", plant: func(_ *rig, f *forged) { f.header["kid"] = nil }},
	"unknown kid":                  {check: "token/kid", plant: func(_ *rig, f *forged) { f.header["kid"] = "4zFb9Kx2" }},
	"ES256 by the kid of an RSA key": {check: "token/algorithm", plant: func(r *rig, f *forged) {
		f.key = readKey(r, "ec-prime256v1.pem")
		f.header["alg"] = "ES256"
		r.metadata["id_token_signing_alg_values_supported"] = []string{"RS256", "ES256"}
	}},
	"RS512, which is not advertised": {check: "token/algorithm", plant: func(r *rig, f *forged) { delete(r.keys[0], "alg"); f.header["alg"] = "RS512" }},
	"broken signature": {check: "token/signature", plant: changed(func(s string) string {
		i := strings.LastIndexByte(s, '.') + 9
		return s[:i] + map[bool]string{true: "B", false: "A"}[s[i] == 'A'] + s[i+1:]
	})},
	"claims changed after signing":       {check: "token/signature", plant: changed(withClaims(`{"iss":"https://oidc.example.com","sub":"system:serviceaccount:kube-system:admin"}`))},
	"signature by another key":           {check: "token/signature", plant: func(_ *rig, f *forged) { f.key = otherKey() }},
	"signature by a key next to it":      {check: "token/signature", plant: func(r *rig, f *forged) { f.key = otherKey(); r.keys = append(r.keys, jwk(r, f.key.PublicKey)) }},
	"no signature":                       {check: "token/signature", plant: changed(func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] })},
	"another issuer":                     {check: "token/issuer", plant: func(_ *rig, f *forged) { f.claims["iss"] = "https://keys.example.com" }},
	"an issuer with a slash":             {check: "token/issuer", plant: func(_ *rig, f *forged) { f.claims["iss"] = issuer + "/" }},
	"no issuer":                          {check: "token/issuer", plant: func(_ *rig, f *forged) { f.claims["iss"] = nil }},
	"expired":                            {check: "token/times", plant: func(_ *rig, f *forged) { f.claims["exp"] = time.Now().Unix() - 1 }},
	"expired before 1970":                {check: "token/times", plant: func(_ *rig, f *forged) { f.claims["exp"] = -1e300 }},
	"no exp":                             {check: "token/times", plant: func(_ *rig, f *forged) { f.claims["exp"] = nil }},
	"exp that is a text":                 {check: "token/form", plant: func(_ *rig, f *forged) { f.claims["exp"] = fmt.Sprint(time.Now().Unix() + 3600) }},
	"no iat":                             {check: "token/times", plant: func(_ *rig, f *forged) { f.claims["iat"] = nil }},
	"iat in an hour":                     {check: "token/times", plant: func(_ *rig, f *forged) { f.claims["iat"], f.claims["nbf"] = time.Now().Unix()+3600, nil }},
	"nbf in an hour":                     {check: "token/times", plant: func(_ *rig, f *forged) { f.claims["nbf"] = time.Now().Unix() + 3600 }},
	"no aud":                             {check: "token/audience", plant: func(_ *rig, f *forged) { f.claims["aud"] = nil }},
	"no audience in aud":                 {check: "token/audience", plant: func(_ *rig, f *forged) { f.claims["aud"] = []string{} }},
	"aud that is a number":               {check: "token/form", plant: func(_ *rig, f *forged) { f.claims["aud"] = 7 }},
	"an audience that was not asked for": {check: "token/audience", plant: func(r *rig, _ *forged) { r.options.Audience = "vault" }},
	"the token of a user":                {check: "token/subject", status: check.Warn, plant: func(_ *rig, f *forged) { f.claims["sub"] = "jane" }},
	"no subject":                         {check: "token/subject", status: check.Warn, plant: func(_ *rig, f *forged) { f.claims["sub"] = nil }},
	"two audiences for AWS":              {check: "token/aws", plant: func(_ *rig, f *forged) { f.claims["aud"] = []string{"sts.amazonaws.com", "vault"} }},
	"another audience for AWS":           {check: "token/aws", status: check.Warn, plant: func(_ *rig, f *forged) { f.claims["aud"] = "vault" }},
	"issued 25h ago for Google Cloud": {check: "token/gcp", plant: forParty("gcp", func(f *forged) {
		f.claims["iat"] = time.Now().Add(-25 * time.Hour).Unix()
	})},
	"11 audiences for Google Cloud": {check: "token/gcp", plant: forParty("gcp", func(f *forged) {
		f.claims["aud"] = strings.Split("a,b,c,d,e,f,g,h,i,j,k", ",")
	})},
	"an audience of 300 bytes for Google Cloud": {check: "token/gcp", plant: forParty("gcp", func(f *forged) { f.claims["aud"] = strings.Repeat("a", 300) })},
	"a subject of 128 bytes for Google Cloud": {check: "token/gcp", plant: forParty("gcp", func(f *forged) {
		f.claims["sub"] = "system:serviceaccount:shop:" + strings.Repeat("t", 128-len("system:serviceaccount:shop:"))
	})},
	"a subject of 601 bytes for Entra ID": {check: "token/azure", plant: forParty("azure", func(f *forged) {
		f.claims["sub"] = "system:serviceaccount:shop:" + strings.Repeat("t", 601-len("system:serviceaccount:shop:"))
	})},
	"white space in the subject for Entra ID": {check: "token/azure", plant: forParty("azure", func(f *forged) { f.claims["sub"] = "system:serviceaccount:shop:the till" })},
	"another audience for Entra ID":           {check: "token/azure", status: check.Warn, plant: forParty("azure", func(f *forged) { f.claims["aud"] = "vault" })},
	// The key set fails then, too: what is judged is the token's line.
	"ES256 for Entra ID": {check: "azure/keys", plant: func(r *rig, f *forged) {
		r.options.Parties = []string{"azure"}
		r.elliptic("ec-prime256v1.pem")
		*f = *r.forge()
		f.claims["aud"] = "api://AzureADTokenExchange"
	}},
}

func changed(change func(string) string) func(*rig, *forged) {
	return func(_ *rig, f *forged) { f.change = change }
}

// withClaims puts others between the header and the signature.
func withClaims(claims string) func(string) string {
	return func(token string) string {
		parts := strings.Split(token, ".")
		parts[1] = base64.RawURLEncoding.EncodeToString([]byte(claims))
		return strings.Join(parts, ".")
	}
}

// forParty makes the token one for another relying party first.
func forParty(name string, plant func(*forged)) func(*rig, *forged) {
	return func(r *rig, f *forged) {
		r.options.Parties = []string{name}
		f.claims["aud"] = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p"
		if p, _ := check.PartyByName(name); p.Audience != "" {
			f.claims["aud"] = p.Audience
		}
		plant(f)
	}
}

func TestCheckFindsTokenFaults(t *testing.T) {
	for name, fault := range tokenFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.options.Parties, r.options.Tries = []string{"aws"}, 1
			f := r.forge()
			fault.plant(r, f)
			// Nobody may be asked but the issuer, whatever the token says.
			trap := stranger(hang).serve(t, nil)
			r.options.ConnectTo = map[string][]string{"keys.example.com:443": {trap.address}}
			token := f.sign(t)
			r.options.Token = token
			neverSent(t, token)
			report, err := r.check()
			if err != nil {
				t.Fatal(err)
			}
			mustFind(t, report, fault.check, fault.status)
			discreet(t, report, token)
			printable(t, report)
			if n := trap.came.Load(); n > 0 {
				t.Errorf("somebody else was asked, %d times", n)
			}
		})
	}
}

// What the token is worth for Entra ID is said although the key set is not.
func TestTokenOfUnsuitableKey(t *testing.T) {
	r := newRig(t)
	r.elliptic("ec-prime256v1.pem")
	r.options.Parties, r.options.Token = []string{"azure", "vault"}, r.forge().sign(t)
	report, err := r.check()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]check.Status{}
	for _, result := range report.Results {
		got[result.Check] = result.Status
	}
	if got["token/signature"] != check.Pass || got["token/azure"] != check.Fail || got["token/vault"] != check.Pass {
		t.Errorf("got %v", got)
	}
}

var signerFaults = map[string]struct {
	check  string
	status check.Status
	plant  func(*rig, *check.Signer)
}{
	"a key that is not published": {check: "signer/published", plant: func(_ *rig, s *check.Signer) {
		s.Keys = append(s.Keys, check.SignerKey{KeyID: "new", PKIX: s.Keys[0].PKIX})
	}},
	"published with another key": {check: "signer/published", plant: func(_ *rig, s *check.Signer) { s.Keys[0].PKIX = otherKey().PKIX() }},
	"excluded, and published":    {check: "signer/published", status: check.Warn, plant: func(_ *rig, s *check.Signer) { s.Keys[0].Excluded = true }},
	"excluded, and another is not": {check: "signer/published", plant: func(_ *rig, s *check.Signer) {
		s.Keys[0].Excluded = true
		s.Keys = append(s.Keys, check.SignerKey{KeyID: "new", PKIX: s.Keys[0].PKIX})
	}},
	"no key at all":            {check: "signer/published", plant: func(_ *rig, s *check.Signer) { s.Keys = nil }},
	"published, and not known": {check: "signer/known", status: check.Warn, plant: func(r *rig, _ *check.Signer) { r.keys = append(r.keys, jwk(r, otherKey().PublicKey)) }},
	"tokens of 48h":            {check: "signer/lifetime", status: check.Warn, plant: func(_ *rig, s *check.Signer) { s.MaxTokenLifetime = 48 * time.Hour }},
}

func TestCheckComparesSigner(t *testing.T) {
	sound := func(r *rig) *check.Signer {
		return &check.Signer{Address: "/run/signer.sock", MaxTokenLifetime: 24 * time.Hour, Keys: []check.SignerKey{
			{KeyID: r.signing.KeyID(), PKIX: r.signing.PKIX()}, {KeyID: "legacy", PKIX: otherKey().PKIX(), Excluded: true},
		}}
	}
	t.Run("sound", func(t *testing.T) {
		r := newRig(t)
		r.options.Signer = sound(r)
		report, err := r.check()
		if err != nil || report.Count(check.Warn)+report.Count(check.Fail) > 0 {
			t.Errorf("got %v, %+v", err, report.Results)
		}
	})
	for name, fault := range signerFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.options.Signer, r.options.Tries = sound(r), 1
			fault.plant(r, r.options.Signer)
			report, err := r.check()
			if err != nil {
				t.Fatal(err)
			}
			mustFind(t, report, fault.check, fault.status)
		})
	}
}
