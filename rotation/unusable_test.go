package rotation_test

import (
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

// unusableKey returns a key that earlier versions accepted.
func unusableKey(t *testing.T) *jwks.SigningKey {
	t.Helper()
	data, err := os.ReadFile("../testdata/keys/rsa-8192.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := jwks.ParsePKCS8Unchecked(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// kids returns the kids of the key set.
func keySetOf(r *rotation.Ring) (kids []string) {
	for _, k := range rotation.NewView(r).KeySet() {
		kids = append(kids, k.KeyID())
	}
	return kids
}

// A ring of an earlier version may have a key that relying parties cannot use. It
// must be read, say so, and sign.
func TestUnusableKeys(t *testing.T) {
	key := unusableKey(t)
	sound, err := rotation.New(simIssuer, rotation.Policy{}, epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	verifying, err := rotation.ImportVerifying(sound, key.PublicKey, false, epoch)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := rotation.NewFrom(key, time.Hour, simIssuer, rotation.Policy{}, epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	rotated, _, err := rotation.Rotate(signing, epoch, true, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	revoked, _, err := rotation.Revoke(rotated, key.KeyID(), epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		ring  *rotation.Ring
		inSet bool
		want  string
	}{
		"sound":     {sound, false, ""},
		"verifying": {verifying, false, "is left out of the key set"},
		"signing":   {signing, true, "run `oidc-provider keys rotate`, and then run `oidc-provider keys revoke"},
		"retired":   {rotated, true, "is retired, and many relying parties refuse"},
		"revoked":   {revoked, false, ""},
	} {
		r, err := rotation.Decode(encode(t, tt.ring, nil))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got string
		for _, err := range r.Unusable(epoch) {
			got += hint.Text(err, hint.Field)
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) ||
			tt.want != "" && !strings.Contains(got, "keys revoke "+key.KeyID()) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
		kids := strings.Join(keySetOf(r), " ")
		if strings.Contains(kids, key.KeyID()) != tt.inSet || !strings.Contains(kids, r.Standby(epoch).KeyID) {
			t.Errorf("%s: the key set has %s", name, kids)
		}
		signer, err := rotation.NewView(r).Signer(epoch)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, _, err := signer.Key.Sign("e30"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
