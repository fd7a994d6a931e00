package rotation_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oidc-provider/rotation"
)

func encodedRing(t testing.TB) []byte {
	t.Helper()
	r, err := rotation.New(simIssuer, rotation.Policy{}, epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	return encode(t, r, nil)
}

func encode(t testing.TB, r *rotation.Ring, sealer rotation.Sealer) []byte {
	t.Helper()
	r, err := r.Seal(t.Context(), sealer)
	if err != nil {
		t.Fatal(err)
	}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// written returns r as it is after it was written.
func written(t testing.TB, r *rotation.Ring, sealer ...rotation.Sealer) *rotation.Ring {
	t.Helper()
	r, err := r.Seal(t.Context(), append(sealer, nil)[0])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRingRoundTrip(t *testing.T) {
	data := encodedRing(t)
	r, err := rotation.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(data), string(again)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if r.Active(epoch).SigningKey() == nil || r.Standby(epoch).SigningKey() == nil {
		t.Error("private keys were lost")
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := encodedRing(t)
	edit := func(change func(ring map[string]any, keys []any)) []byte {
		var ring map[string]any
		if err := json.Unmarshal(good, &ring); err != nil {
			t.Fatal(err)
		}
		change(ring, ring["keys"].([]any))
		data, err := json.Marshal(ring)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	key := func(keys []any, i int) map[string]any { return keys[i].(map[string]any) }
	copies := func(names ...string) (list []any) {
		for _, name := range names {
			list = append(list, map[string]any{"name": name, "since": epoch})
		}
		return list
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "not a complete JSON document"},
		{"truncated", good[:len(good)-10], "restore it from a backup"},
		{"something else", []byte(`{"keys":[]}`), "not a ring"},
		{"null", []byte(`null`), "not a ring"},
		{"newer", bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 5`), 1), "upgrade oidc-provider"},
		{"signed, no signature", bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 3`), 1), "without its signatures"},
		{"version 2, no copies", bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 2`), 1), "version 2 with 0 copies"},
		{"version 1, copies", edit(func(r map[string]any, _ []any) { r["copies"] = copies("google") }), "version 1 with 1 copies"},
		{"copy twice", edit(func(r map[string]any, _ []any) { r["version"], r["copies"] = 2, copies("google", "google") }), "is in it twice"},
		{"copy of no name", edit(func(r map[string]any, _ []any) { r["version"], r["copies"] = 2, copies("a\nb") }), "cannot name a copy"},
		{"copy since no time", edit(func(r map[string]any, _ []any) { r["version"], r["copies"] = 2, []any{map[string]any{"name": "a"}} }), "without a time"},
		{"no such copy", edit(func(r map[string]any, k []any) {
			r["version"], r["copies"] = 2, copies("google")
			key(k, 1)["copyConfirmedAt"] = map[string]any{"vault": epoch}
		}), "which is not a copy"},
		{"two documents", append(bytes.Clone(good), good...), "restore"},
		{"new field", edit(func(r map[string]any, _ []any) { r["quorum"] = 1 }), "unknown field"},
		{"no issuer", edit(func(r map[string]any, _ []any) { delete(r, "issuer") }), "issuer"},
		{"no generation", edit(func(r map[string]any, _ []any) { delete(r, "generation") }), "generation"},
		{"no keys", edit(func(r map[string]any, _ []any) { r["keys"] = []any{} }), "no key is active"},
		{"no policy", edit(func(r map[string]any, _ []any) { delete(r, "policy") }), "policy"},
		{"negative version", bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": -7`), 1), "not a ring"},
		{"time zone", bytes.Replace(good, []byte("@every 720h"), []byte("TZ=UTC"), 1), "time zones"},
		{"kid twice", edit(func(r map[string]any, k []any) { r["keys"] = append(k, k[0]) }), "is in it twice"},
		{"removed key", edit(func(r map[string]any, k []any) { r["removed"] = []any{key(k, 1)["kid"]} }), "is in it twice"},
		{"other kid", edit(func(_ map[string]any, k []any) { key(k, 0)["kid"] = "x" }), "the public key is that of another key"},
		{"other public key", edit(func(_ map[string]any, k []any) { key(k, 0)["public"] = key(k, 1)["public"] }), "the public key is that of another key"},
		{"other private key", edit(func(_ map[string]any, k []any) { key(k, 0)["private"] = key(k, 1)["private"] }), "belongs to another"},
		{"broken private key", edit(func(_ map[string]any, k []any) { key(k, 0)["private"] = "c2VjcmV0" }), "not a valid private key"},
		{"other algorithm", edit(func(_ map[string]any, k []any) { key(k, 0)["algorithm"] = "RS256" }), "the public key is that of another key"},
		{"no key signs", edit(func(_ map[string]any, k []any) { delete(key(k, 0), "private") }), "no key is active"},
		{"two sign", edit(func(_ map[string]any, k []any) { key(k, 1)["signFrom"] = key(k, 0)["signFrom"] }), "2 keys are active"},
		{"overlap ahead", edit(func(_ map[string]any, k []any) { key(k, 1)["signFrom"] = "2027-01-01T00:00:00Z" }), "2 keys are active"},
		{"excluded key signs", edit(func(_ map[string]any, k []any) { key(k, 0)["excludeFromDiscovery"] = true }), "must not be able to sign"},
		{"no lead", edit(func(_ map[string]any, k []any) { delete(key(k, 1), "publishAhead") }), "out of bounds"},
		{"no retention", edit(func(_ map[string]any, k []any) { delete(key(k, 0), "retention") }), "out of bounds"},
		{"an issuer for the terminal", edit(func(r map[string]any, _ []any) { r["issuer"] = "https://a.test\x1b[2J" }), "cannot be printed"},
		{"a recipient for the terminal", edit(func(r map[string]any, _ []any) { r["recipients"] = []any{"age1\r\x1b[8m"} }), "cannot be printed"},
		{"an issuer in two directions", edit(func(r map[string]any, _ []any) { r["issuer"] = "https://a.test/\u202e" }), "cannot be printed"},
		{"gap ahead", edit(func(_ map[string]any, k []any) { key(k, 0)["signUntil"] = "2027-01-01T00:00:00Z" }), "no key is active"},
	} {
		_, err := rotation.Decode(tt.data)
		if err == nil || !strings.Contains(text(err), tt.want) || !strings.Contains(err.Error(), "left unchanged") {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: the error shows private bytes: %v", tt.name, err)
		}
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	s := rotation.Secret("hidden")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		if got := fmt.Sprintf(verb, s); got != "[secret]" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

// copiedRing is a ring with copies, one of which has the keys.
func copiedRing(t testing.TB) []byte {
	t.Helper()
	r, err := rotation.Decode(encodedRing(t))
	for _, name := range []string{"google", "vault"} {
		if err == nil {
			r, _, err = rotation.AddCopy(r, name, epoch)
		}
	}
	if err == nil {
		r, err = rotation.ConfirmCopy(r, "google", epoch, keySet(r)...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return encode(t, r, nil)
}

// What Decode accepts has a key that signs, and survives being written again.
func FuzzDecode(f *testing.F) {
	good := encodedRing(f)
	f.Add(good)
	f.Add(sealedRing(f))
	f.Add(copiedRing(f))
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":2}`))
	f.Add(bytes.Replace(good, []byte("@every 720h"), []byte("TZ=UTC"), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := rotation.Decode(data)
		if err != nil {
			return
		}
		if active := r.Active(r.Updated); active == nil || active.SigningKey() == nil && len(active.Sealed) == 0 {
			t.Fatal("no key is active")
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("accepted but cannot be written: %v", err)
		}
		back, err := rotation.Decode(again)
		if err != nil {
			t.Fatalf("written but cannot be read: %v\n%s", err, again)
		}
		if back.Generation != r.Generation || len(back.Keys) != len(r.Keys) {
			t.Fatal("it came back as another")
		}
		if _, _, err := rotation.Advance(r, r.Updated, "", generateEC); err != nil {
			t.Fatalf("accepted but cannot go on: %v", err)
		}
	})
}

// A hostile ring costs little, whoever has written it.
func TestDecodeIsBounded(t *testing.T) {
	good := encodedRing(t)
	var ring map[string]any
	if err := json.Unmarshal(good, &ring); err != nil {
		t.Fatal(err)
	}
	keys := ring["keys"].([]any)
	for len(ring["keys"].([]any)) < 501 {
		ring["keys"] = append(ring["keys"].([]any), keys[1])
	}
	many, err := json.Marshal(ring)
	if err != nil {
		t.Fatal(err)
	}
	for want, data := range map[string][]byte{
		"has 501 keys":          many,
		"bytes, more than 8388": bytes.Replace(good, []byte("{"), append([]byte("{"), bytes.Repeat([]byte(" "), 8<<20)...), 1),
	} {
		if _, err := rotation.Decode(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
