package mirror_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"oidc-provider/jwks"
)

// A key set that changes back and forth is reported, once, and so is its end.
func TestAlternatingKeySet(t *testing.T) {
	a, b, c, d, e := newKey(t, "a"), newKey(t, "b"), newKey(t, "c"), newKey(t, "d"), newKey(t, "e")
	set := func(keys ...jwks.PublicKey) []jwks.PublicKey { return keys }
	const each = 30 * time.Second
	for name, tt := range map[string]struct {
		sets     [][]jwks.PublicKey
		every    time.Duration
		returned uint64
		warned   bool
	}{
		"one server":        {sets: [][]jwks.PublicKey{set(a), set(a), set(a), set(a)}},
		"a rotation":        {sets: [][]jwks.PublicKey{set(a), set(a, b), set(b), set(b, c), set(c)}},
		"a mistake undone":  {sets: [][]jwks.PublicKey{set(a, b), set(b), set(a, b)}, returned: 1},
		"another order":     {sets: [][]jwks.PublicKey{set(a, b), set(b, a), set(a, b), set(b, a)}},
		"two servers":       {sets: [][]jwks.PublicKey{set(a), set(b), set(a), set(b)}, returned: 2, warned: true},
		"with a common key": {sets: [][]jwks.PublicKey{set(a, b), set(a, c), set(a, b), set(a, c)}, returned: 2, warned: true},
		"three servers":     {sets: [][]jwks.PublicKey{set(a), set(b), set(c), set(a), set(b)}, returned: 2, warned: true},
		"two keys at once":  {sets: [][]jwks.PublicKey{set(a, b), set(c), set(a, b)}, returned: 2},
		"one server lacks":  {sets: [][]jwks.PublicKey{set(a, b), set(a), set(a, b), set(a), set(a, b)}, returned: 2, warned: true},
		"unlike sizes":      {sets: [][]jwks.PublicKey{set(a), set(b, c, d, e), set(a), set(b, c, d, e)}, returned: 5, warned: true},
		"once every two hours": {
			sets: [][]jwks.PublicKey{set(a), set(b), set(a), set(b), set(a)}, every: 2 * time.Hour},
		"a mistake a day": {
			sets: [][]jwks.PublicKey{set(a, b), set(a), set(a, b), set(a, b), set(a), set(a, b)}, every: 40 * time.Minute, returned: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source, w := new(fake), new(world)
				source.has(tt.sets[0]...)
				m := w.mirror(source, "")
				for _, keys := range tt.sets {
					source.has(keys...)
					refresh(t, m, "")
					time.Sleep(max(tt.every, each))
				}
				s, logged := m.Status(), w.logged()
				if s.Returned != tt.returned || s.Alternating != tt.warned {
					t.Errorf("status %+v", s)
				}
				if n := strings.Count(logged, "changes back and forth"); (n == 1) != tt.warned || n > 1 {
					t.Errorf("logged %s", logged)
				}
				time.Sleep(time.Hour)
				refresh(t, m, "")
				if m.Status().Alternating || strings.Contains(w.logged(), "any more") != tt.warned {
					t.Errorf("an hour later: %+v", m.Status())
				}
			})
		})
	}
}

// Each change counts.
func TestChanges(t *testing.T) {
	a, b := newKey(t, "a"), newKey(t, "b")
	source, w := new(fake), new(world)
	source.has(a)
	m := w.mirror(source, "")
	for i, keys := range [][]jwks.PublicKey{{a}, {a}, {b}, {a}, {b}, {b}} {
		source.has(keys...)
		refresh(t, m, "")
		if want := []uint64{1, 1, 2, 3, 4, 4}[i]; m.Status().Changes != want {
			t.Errorf("fetch %d: %d changes, want %d", i, m.Status().Changes, want)
		}
	}
}
