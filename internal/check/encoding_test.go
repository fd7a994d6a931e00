package check_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"oidc-provider/internal/check"
)

// The numbers of a key may be right and yet be written in a way that relying parties
// refuse.
func TestEncodings(t *testing.T) {
	raw := base64.RawURLEncoding
	decode := func(text any) []byte {
		data, err := raw.DecodeString(text.(string))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	prefixed := func(text any, zeros int) string {
		return raw.EncodeToString(append(make([]byte, zeros), decode(text)...))
	}
	ec := func(curve string, plant func(k map[string]any)) func(r *rig) {
		return func(r *rig) { r.elliptic(curve); plant(r.keys[0]) }
	}
	rsa := func(plant func(k map[string]any)) func(r *rig) { return func(r *rig) { plant(r.keys[0]) } }
	for name, tt := range map[string]struct {
		plant  func(*rig)
		status check.Status
		only   []string // relying parties
		seen   string
	}{
		"n with a leading zero":    {rsa(func(k map[string]any) { k["n"] = prefixed(k["n"], 1) }), check.Fail, []string{"aws", "dotnet"}, "n has a leading zero"},
		"n with many":              {rsa(func(k map[string]any) { k["n"] = prefixed(k["n"], 9) }), check.Fail, []string{"aws", "dotnet"}, "n has a leading zero"},
		"e with a leading zero":    {rsa(func(k map[string]any) { k["e"] = "AAEAAQ" }), check.Fail, []string{"aws", "dotnet"}, "e has a leading zero"},
		"n padded":                 {rsa(func(k map[string]any) { k["n"] = base64.URLEncoding.EncodeToString(decode(k["n"])) }), check.Fail, nil, "n is padded"},
		"n in standard base64":     {rsa(func(k map[string]any) { k["n"] = base64.RawStdEncoding.EncodeToString(decode(k["n"])) }), check.Fail, nil, "n is in standard base64"},
		"n padded, standard":       {rsa(func(k map[string]any) { k["n"] = base64.StdEncoding.EncodeToString(decode(k["n"])) }), check.Fail, nil, "n is in standard base64"},
		"n in two lines":           {rsa(func(k map[string]any) { k["n"] = k["n"].(string)[:64] + "\n" + k["n"].(string)[64:] }), check.Fail, nil, "n contains white space"},
		"n in hexadecimal":         {rsa(func(k map[string]any) { k["n"] = "0x" + strings.Repeat("a", 511) }), check.Fail, nil, "n is not base64url"},
		"e padded":                 {rsa(func(k map[string]any) { k["e"] = "AQAB====" }), check.Fail, nil, "e is padded"},
		"e with a space":           {rsa(func(k map[string]any) { k["e"] = "AQAB " }), check.Fail, nil, "e contains white space"},
		"n with unused bits":       {rsa(func(k map[string]any) { k["n"] = withUnusedBits(k["n"].(string)) }), check.Warn, nil, "n has unused bits"},
		"x too short":              {ec("ec-prime256v1.pem", func(k map[string]any) { k["x"] = raw.EncodeToString(decode(k["x"])[1:]) }), check.Fail, nil, "x has 31 octets, want 32"},
		"y too long":               {ec("ec-secp384r1.pem", func(k map[string]any) { k["y"] = prefixed(k["y"], 1) }), check.Fail, nil, "y has 49 octets, want 48"},
		"x of P-521 without zeros": {ec("ec-secp521r1.pem", func(k map[string]any) { k["x"] = raw.EncodeToString(decode(k["x"])[1:]) }), check.Fail, nil, "x has 65 octets, want 66"},
		"y padded":                 {ec("ec-prime256v1.pem", func(k map[string]any) { k["y"] = k["y"].(string) + "=" }), check.Fail, nil, "y is padded"},
		"sound":                    {func(*rig) {}, check.Pass, nil, "of the right length"},
		"sound curve":              {ec("ec-secp521r1.pem", func(map[string]any) {}), check.Pass, nil, "of the right length"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.options.Tries, r.options.Parties = 1, check.PartyNames()
			tt.plant(r)
			report, err := r.check()
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(report.Results, func(r check.Result) bool { return r.Check == "jwks/numbers" })
			got := report.Results[i]
			if got.Status != tt.status || !slices.Equal(got.For, tt.only) || !strings.Contains(got.Seen, tt.seen) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// withUnusedBits sets the bits of the last character that no octet has.
func withUnusedBits(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, text[len(text)-1])
	return text[:len(text)-1] + alphabet[i|1:i|1+1]
}

// AWS refuses a key set that has been seen, which is otherwise sound.
func TestLeadingZeroCase(t *testing.T) {
	data, err := os.ReadFile("../../testdata/cases/leading-zero.json")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.options.Tries, r.options.Parties = 1, []string{"aws"}
	r.keys = nil
	if err := json.Unmarshal(data, &struct{ Keys *[]map[string]any }{&r.keys}); err != nil {
		t.Fatal(err)
	}
	report, err := r.check()
	if err != nil {
		t.Fatal(err)
	}
	if first := report.First("aws"); first == nil || !strings.Contains(first.Seen, "n has a leading zero octet") {
		t.Errorf("got %+v", first)
	}
	if verdict := report.RelyingParties[0]; verdict.Answer != check.Refuses {
		t.Errorf("got %+v", verdict)
	}
}
