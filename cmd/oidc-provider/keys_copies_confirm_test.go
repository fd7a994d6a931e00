package main

import (
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

// An operator who names the next key has updated the copy with the key set that has it,
// and not with later keys.
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
		if got, err := a.vouched(r, r.Updated); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, tt.want)
		}
	}
	a := confirmation{name: "google", command: "confirm google"}
	if _, err := a.vouched(r, r.Updated); err == nil || !strings.Contains(hint.Of(err), "`confirm google "+next+"`") {
		t.Errorf("no key: got %v, want a hint that names the next one", err)
	}
}
