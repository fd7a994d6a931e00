package rotation_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// A ring that no server could read is not written, whatever the change that made
// it.
func TestUnreadableRingIsNotWritten(t *testing.T) {
	for name, spoil := range map[string]func(r *rotation.Ring){
		"no issuer":              func(r *rotation.Ring) { r.Issuer = "" },
		"generation 0":           func(r *rotation.Ring) { r.Generation = 0 },
		"no time":                func(r *rotation.Ring) { r.Updated = time.Time{} },
		"no policy":              func(r *rotation.Ring) { r.Policy = rotation.Policy{} },
		"policy":                 func(r *rotation.Ring) { r.Policy.Schedule = "sometimes" },
		"a key twice":            func(r *rotation.Ring) { r.Keys = append(r.Keys, r.Keys[0]) },
		"a removed key":          func(r *rotation.Ring) { r.Removed = append(r.Removed, r.Keys[1].KeyID) },
		"another kid":            func(r *rotation.Ring) { r.Keys[0].KeyID = "x" },
		"another algorithm":      func(r *rotation.Ring) { r.Keys[0].Algorithm = "RS256" },
		"public key":             func(r *rotation.Ring) { r.Keys[0].Public = r.Keys[0].Public[:20] },
		"no key":                 func(r *rotation.Ring) { r.Keys = nil },
		"no active key":          func(r *rotation.Ring) { r.Keys[0].SignFrom = r.Updated.Add(time.Hour) },
		"recipients, plain keys": func(r *rotation.Ring) { r.Recipients = []string{"alice"} },
	} {
		t.Run(name, func(t *testing.T) {
			good, err := rotation.New(simIssuer, rotation.Policy{Algorithm: "ES256"}, epoch, generateEC)
			if err != nil {
				t.Fatal(err)
			}
			s := new(store.Memory)
			if err := rotation.Create(t.Context(), s, nil, good); err != nil {
				t.Fatal(err)
			}
			before, _, err := s.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			spoiled := func(r *rotation.Ring) *rotation.Ring {
				bad := *r
				bad.Keys = slices.Clone(r.Keys)
				spoil(&bad)
				bad.Changed()
				return &bad
			}
			_, err = rotation.Update(t.Context(), s, rotation.Access{}, func(r *rotation.Ring) (*rotation.Ring, error) { return spoiled(r), nil })
			if err == nil || strings.Contains(hint.Of(err), "backup") {
				t.Errorf("Update: %v with hint %q", err, hint.Of(err))
			}
			if after, _, err := s.Load(t.Context()); err != nil || !bytes.Equal(after, before) {
				t.Errorf("the ring has changed: %v", err)
			}
			empty := new(store.Memory)
			if err := rotation.Create(t.Context(), empty, nil, spoiled(good)); err == nil {
				t.Error("Create writes it")
			}
			if data, _, _ := empty.Load(t.Context()); data != nil {
				t.Errorf("the store has %s", data)
			}
		})
	}
}
