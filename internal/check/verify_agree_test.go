package check_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/check"
)

// Verify accepts every form that RFC 7519 allows, and never contradicts Explain.
func TestVerifyAndExplainAgree(t *testing.T) {
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		plant   func(*rig, *forged)
		accepts bool
	}{
		"as Kubernetes writes it":  {func(*rig, *forged) {}, true},
		"aud as a string":          {func(_ *rig, f *forged) { f.claims["aud"] = "sts.amazonaws.com" }, true},
		"times with a fraction":    {func(_ *rig, f *forged) { f.claims["exp"], f.claims["iat"] = float64(now)+3600.25, float64(now)-0.5 }, true},
		"nbf with a fraction":      {func(_ *rig, f *forged) { f.claims["nbf"] = float64(now) - 0.75 }, true},
		"times with an exponent":   {changedClaims("\"exp\":", `"exp":1e10,"was":`), true},
		"both":                     {func(_ *rig, f *forged) { f.claims["aud"], f.claims["exp"] = "sts.amazonaws.com", float64(now)+60.5 }, true},
		"no nbf":                   {func(_ *rig, f *forged) { f.claims["nbf"] = nil }, true},
		"no iat":                   {func(_ *rig, f *forged) { f.claims["iat"] = nil }, true},
		"no jti":                   {func(_ *rig, f *forged) { f.claims["jti"] = nil }, true},
		"jti that is a number":     {func(_ *rig, f *forged) { f.claims["jti"] = 7 }, true},
		"another subject":          {func(_ *rig, f *forged) { f.claims["sub"] = "admin" }, true},
		"no kubernetes.io":         {func(_ *rig, f *forged) { f.claims["kubernetes.io"] = nil }, true},
		"kubernetes.io a string":   {func(_ *rig, f *forged) { f.claims["kubernetes.io"] = "shop" }, true},
		"another member of header": {func(_ *rig, f *forged) { f.header["x"] = 1 }, true},
		"several audiences":        {func(_ *rig, f *forged) { f.claims["aud"] = []string{"a", "sts.amazonaws.com"} }, true},
		"another audience":         {func(_ *rig, f *forged) { f.claims["aud"] = "vault" }, false},
		"no aud":                   {func(_ *rig, f *forged) { f.claims["aud"] = nil }, false},
		"expired by a fraction":    {func(_ *rig, f *forged) { f.claims["exp"] = float64(now) - 1.5 }, false},
		"another issuer":           {func(_ *rig, f *forged) { f.claims["iss"] = "https://other.example" }, false},
		"exp that is a list":       {func(_ *rig, f *forged) { f.claims["exp"] = []int{1} }, false},
		"not valid yet":            {func(_ *rig, f *forged) { f.claims["nbf"] = now + 3600 }, false},
		"a key set with a large key": {func(r *rig, _ *forged) {
			large := jwk(r, r.signing.PublicKey)
			large["kid"], large["n"] = "large", strings.Repeat("_", 1366)
			r.keys = append(r.keys, large)
		}, false},
		"a large key signs": {func(r *rig, _ *forged) { r.keys[0]["n"] = strings.Repeat("_", 1366) }, false},
		"a key set in HTML": {func(r *rig, _ *forged) {
			r.keySet.body = []byte("<html><title>Please sign in to this proxy first</title>s3cret")
		}, false},
		"no key set": {func(r *rig, _ *forged) { r.keySet.status, r.keySet.body = 404, []byte(strings.Repeat("s3cret ", 1000)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.options.Tries = 1
			f := r.forge()
			tt.plant(r, f)
			r.options.Audience, r.options.Token = "sts.amazonaws.com", f.sign(t)
			if _, err := r.check(); err != nil {
				t.Fatal(err)
			}
			report, refusal, err := check.Explain(t.Context(), r.options)
			if err != nil {
				t.Fatal(err)
			}
			v, err := check.NewVerifier(t.Context(), r.options, r.options.Audience)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := v.Verify(t.Context(), r.options.Token)
			if (err == nil) != tt.accepts || (refusal == nil) != tt.accepts || (len(claims) > 0) != tt.accepts {
				t.Errorf("verify: %v; explain: %v", err, refusal)
			}
			for _, verdict := range report.RelyingParties {
				if verdict.Party == "go-oidc" && (verdict.Answer == check.Accepts) != tt.accepts {
					t.Errorf("the verdict is %+v", verdict)
				}
			}
			// No error contains a document.
			for _, err := range []error{err, refusal} {
				if text := fmt.Sprint(err); len(text) > 1500 || strings.Contains(text, "s3cret") || strings.Contains(text, `"kty"`) {
					t.Errorf("the error is %s", text)
				}
			}
		})
	}
}

// changedClaims replaces a part of the claims before they are signed.
func changedClaims(from, to string) func(*rig, *forged) {
	return func(_ *rig, f *forged) { f.replace = [2]string{from, to} }
}
