package signer_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"oidc-provider/internal/signer"
)

func TestAmbiguousClaims(t *testing.T) {
	s, err := newKeys(t, jose.ES256).Signer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	claims := func(more string) string {
		return encode(fmt.Sprintf(`{"iss":%q,"exp":%d%s}`, issuer, now.Unix(), more))
	}
	for _, tt := range []struct{ more, want string }{ // want "" if it is signed
		// What kube-apiserver sends.
		{`,"aud":["x"],"iat":1,"jti":"j","nbf":1,"sub":"s","kubernetes.io":{"namespace":"n","node":{"name":"a","uid":"u"},` +
			`"pod":{"name":"a","uid":"u"},"serviceaccount":{"name":"a","uid":"u"},"warnafter":1}`, ""},
		{`,"ISSUER":1,"expiry":1,"Name":"x","name":"y"`, ""},
		{`,"a":{"iss":1,"ISS":2,"Exp":3}`, ""},
		{`,"a":["b","b",{"c":1},{"c":1},["c","c"]],"b":"a"`, ""},
		{`,"aud":["aud","Aud","exp"]`, ""},
		{`,"a":"Exp","b":"Exp"`, ""},

		{`,"Iss":"https://evil.test"`, `member "Iss" differs from iss only in case`},
		{`,"EXP":99999999999`, `member "EXP" differs from exp only in case`},
		{`,"eXp":null`, `member "eXp" differs from exp only in case`},
		{`,"Sub":{"sub":1}`, `member "Sub" differs from sub only in case`},
		{`,"\u0041ud":"x"`, `member "Aud" differs from aud only in case`},
		{`,"iſs":"x"`, "differs from iss only in case"}, // the long s is a lower-case s
		{`,"Jti":"x"`, "differs from jti only in case"},
		{`,"NBF":1`, "differs from nbf only in case"},
		{`,"iAt":1`, "differs from iat only in case"},
		{`,"Kubernetes.io":{}`, "differs from kubernetes.io only in case"},
		{`,"\u212aubernetes.io":{}`, "differs from kubernetes.io only in case"}, // the Kelvin sign is a capital K

		{`,"sub":"a","sub":"b"`, `member "sub" occurs twice in an object`},
		{`,"sub":"a","s\u0075b":"a"`, `member "sub" occurs twice in an object`},
		{`,"kubernetes.io":{"namespace":"a","namespace":"b"}`, `member "namespace" occurs twice in an object`},
		{`,"kubernetes.io":{"pod":{"name":"a","uid":{},"name":"b"}}`, `member "name" occurs twice in an object`},
		{`,"a":[[{"b":[],"b":1}]]`, `member "b" occurs twice in an object`},
		{`,"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "nested more than 1000 deep"},
		{`,"a":{"":1,"":2}`, `member "" occurs twice in an object`},
		{`,"a":` + strings.Repeat(`{"a":`, 900) + `{"b":1,"b":1}` + strings.Repeat("}", 900), `member "b" occurs twice in an object`},
		{`,"` + strings.Repeat("x", 300) + `":1,"` + strings.Repeat("x", 300) + `":1`, strings.Repeat("x", 200) + `"... occurs twice`},
	} {
		err := signer.CheckClaims(claims(tt.more), s, now)
		var refused *signer.ClaimsError
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%.80s: %v", tt.more, err)
		case tt.want == "":
		case !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.want):
			t.Errorf("%.80s: got %v, want %q", tt.more, err, tt.want)
		case refused.Reason != "relying parties could read the claims differently":
			t.Errorf("%.80s: the requester gets %q", tt.more, refused.Reason)
		}
	}
}

// The largest request costs at most 20 times its size.
func TestCostOfClaims(t *testing.T) {
	s, err := newKeys(t, jose.ES256).Signer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var names strings.Builder
	for n := range 80_000 {
		fmt.Fprintf(&names, `,"%x":0`, n)
	}
	const size = 1 << 20
	for name, more := range map[string]string{
		"nested arrays":  `,"a":` + strings.Repeat("[", size/2-100) + strings.Repeat("]", size/2-100),
		"nested objects": `,"a":` + strings.Repeat(`{"":`, size/5-100) + "1" + strings.Repeat("}", size/5-100),
		"many names":     names.String(),
		"one name":       `,"` + strings.Repeat("x", size-100) + `":1`,
		"many numbers":   `,"a":[0` + strings.Repeat(",0", size/2-100) + "]",
		"many objects":   `,"a":[{"":0}` + strings.Repeat(`,{"":0}`, size/7-100) + "]",
	} {
		claims := encode(fmt.Sprintf(`{"iss":%q,"exp":1%s}`, issuer, more))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		started := time.Now()
		_ = signer.CheckClaims(claims, s, time.Now()) // very deep ones are refused
		runtime.ReadMemStats(&after)
		cost := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(claims))
		t.Logf("%s: %.1f times its size allocated, %v", name, cost, time.Since(started))
		if after.HeapSys > before.HeapSys+20*uint64(len(claims)) {
			t.Errorf("%s: the heap grows by %d MiB", name, (after.HeapSys-before.HeapSys)>>20)
		}
	}
}
