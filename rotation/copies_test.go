package rotation_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

func addCopy(t *testing.T, r *rotation.Ring, name string, now time.Time) *rotation.Ring {
	t.Helper()
	next, _, err := rotation.AddCopy(r, name, now)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// keySet are the kids of the key set.
func keySet(r *rotation.Ring) (kids []string) {
	for i := range r.Keys {
		if k := &r.Keys[i]; k.InKeySet() {
			kids = append(kids, k.KeyID)
		}
	}
	return kids
}

// confirm confirms that a copy has the keys with these kids, all if none is given.
func confirm(t *testing.T, r *rotation.Ring, name string, now time.Time, kids ...string) *rotation.Ring {
	t.Helper()
	if len(kids) == 0 {
		kids = keySet(r)
	}
	next, err := rotation.ConfirmCopy(r, name, now, kids...)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// PublishAhead counts from the last of the servers and copies, and an activation
// that has been waited for comes as soon as the schedule lets it.
func TestActivationWaitsForCopies(t *testing.T) {
	const hour = time.Hour
	for _, tt := range []struct {
		schedule          string
		confirmed, copied time.Duration // after the active key began
		want              string
	}{
		{"@every 720h", 0, hour, "2026-03-31T12:00:00Z"},
		{"@every 720h", hour, 0, "2026-03-31T12:00:00Z"},
		{"@every 720h", 0, 719 * hour, "2026-04-01T11:00:00Z"},
		{"@every 720h", 719 * hour, 0, "2026-04-01T11:00:00Z"},
		{"@every 720h", 0, 1000 * hour, "2026-04-13T04:00:00Z"},
		{"@weekly", 0, 132 * hour, "2026-03-08T00:00:00Z"}, // to the second
		{"@weekly", 0, 133 * hour, "2026-03-15T00:00:00Z"},
	} {
		r := addCopy(t, newRing(t, rotation.Policy{Schedule: tt.schedule}), "google", epoch)
		var at time.Time
		for _, d := range []time.Duration{tt.confirmed, tt.copied} {
			at = latest(at, epoch.Add(d))
		}
		if tt.copied < tt.confirmed {
			r = confirm(t, r, "google", epoch.Add(tt.copied))
			r = advance(t, r, at)
		} else {
			r = advance(t, r, epoch.Add(tt.confirmed))
			if !r.Keys[1].SignFrom.IsZero() || r.Keys[1].ConfirmedAt.IsZero() {
				t.Errorf("%s: planned for %v before the copy has the key, confirmed at %v", tt.schedule, r.Keys[1].SignFrom, r.Keys[1].ConfirmedAt)
			}
			if again := advance(t, r, at); again != r {
				t.Errorf("%s: something is done while it waits", tt.schedule)
			}
			r = advance(t, confirm(t, r, "google", at), at)
		}
		if got := r.Keys[1].SignFrom.UTC().Format(time.RFC3339); got != tt.want {
			t.Errorf("%s, confirmed after %v and copied after %v: activation at %s, want %s", tt.schedule, tt.confirmed, tt.copied, got, tt.want)
		}
		if r.Keys[1].Forced {
			t.Errorf("%s: it is called forced", tt.schedule)
		}
	}
}

func TestAddCopy(t *testing.T) {
	const day = 24 * time.Hour
	fresh := newRing(t, rotation.Policy{})
	planned := advance(t, fresh, epoch)
	activation := planned.Keys[1].SignFrom
	moved, err := rotation.SetPolicy(planned, rotation.Policy{Schedule: "@every 800h"}, activation.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		ring  *rotation.Ring
		now   time.Time
		signs time.Time // from when on servers may sign anyway
		stays bool
	}{
		{"no date yet", fresh, epoch, time.Time{}, false},
		{"long before the activation", planned, epoch.Add(day), time.Time{}, false},
		{"just early enough for every server", planned, activation.Add(-day - 20*time.Minute), time.Time{}, false},
		{"a moment later", planned, activation.Add(-day - 20*time.Minute + 1), activation, false},
		{"an hour before", planned, activation.Add(-time.Hour), activation, false},
		{"it may be past on some clock", planned, activation.Add(-10 * time.Minute), activation, true},
		{"past, and no next key", planned, activation, time.Time{}, true},
		{"a plan that some servers still follow", moved, activation.Add(-time.Minute), activation.Add(-time.Minute), false},
		{"a plan that all have forgotten", moved, activation.Add(2 * day), time.Time{}, false},
	} {
		r, signs, err := rotation.AddCopy(tt.ring, "google", tt.now)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if !signs.Equal(tt.signs) {
			t.Errorf("%s: it may sign from %v, want %v", tt.name, signs, tt.signs)
		}
		if got := !r.Keys[1].SignFrom.IsZero(); got != tt.stays {
			t.Errorf("%s: the plan stays: %v", tt.name, got)
		}
		if got, want := r.Keys[0].SignUntil, r.Keys[1].SignFrom; !got.Equal(want) {
			t.Errorf("%s: the active key signs until %v and the next from %v", tt.name, got, want)
		}
		if again, signs, err := rotation.AddCopy(r, "google", tt.now); again != r || !signs.IsZero() || err != nil {
			t.Errorf("%s: a second time: %v, %v", tt.name, signs, err)
		}
		if _, err := rotation.Decode(encode(t, r, nil)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if len(planned.Copies) > 0 || planned.Version != 1 || planned.Keys[1].SignFrom.IsZero() {
		t.Error("the ring before has changed")
	}
}

func TestCopyNames(t *testing.T) {
	r := newRing(t, rotation.Policy{})
	for _, name := range []string{"g", "google-prod", "vault.eu_1", strings.Repeat("a", 63)} {
		if _, _, err := rotation.AddCopy(r, name, epoch); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "Google", "-a", "a-", "a/b", "a b", "a\nb", "ä", strings.Repeat("a", 64), strings.Repeat("x", 5000)} {
		if _, _, err := rotation.AddCopy(r, name, epoch); err == nil || hint.Of(err) == "" || len(err.Error()) > 400 {
			t.Errorf("%.70q: got %v", name, err)
		}
	}
	for i := range 64 {
		r = addCopy(t, r, fmt.Sprint("copy", i), epoch)
	}
	if _, _, err := rotation.AddCopy(r, "one-more", epoch); err == nil || hint.Of(err) == "" {
		t.Errorf("65 copies: got %v", err)
	}
}

func TestConfirmCopy(t *testing.T) {
	other := simKeys[0].PublicKey
	r := advance(t, newRing(t, rotation.Policy{}), epoch)
	r, err := rotation.ImportVerifying(r, other, true, epoch)
	if err != nil {
		t.Fatal(err)
	}
	r = addCopy(t, addCopy(t, r, "google", epoch), "vault", epoch)
	active, next := r.Keys[0].KeyID, r.Keys[1].KeyID
	lacking := func(r *rotation.Ring) (all []string) {
		for i := range r.Keys {
			all = append(all, strings.Join(r.Lacking(&r.Keys[i]), "+"))
		}
		return all
	}
	one := confirm(t, r, "google", epoch, next)
	all := confirm(t, one, "vault", epoch.Add(time.Hour))
	for name, tt := range map[string]struct {
		ring *rotation.Ring
		want []string
	}{
		"none":              {r, []string{"google+vault", "google+vault", ""}},
		"one key":           {one, []string{"google+vault", "vault", ""}},
		"the whole key set": {all, []string{"google", "", ""}},
	} {
		if diff := cmp.Diff(tt.want, lacking(tt.ring)); diff != "" {
			t.Errorf("%s: copies that lack it (-want +got):\n%s", name, diff)
		}
	}
	if got, err := rotation.ConfirmCopy(all, "vault", epoch.Add(2*time.Hour), keySet(all)...); got != all || err != nil {
		t.Errorf("a second time: %v", err)
	}
	revoked, _, err := rotation.Revoke(r, active, epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		ring *rotation.Ring
		copy string
		kid  []string
		want string
	}{
		"no such copy":         {r, "gogle", nil, "the copies of the ring are google, vault"},
		"no copies":            {newRing(t, rotation.Policy{}), "google", nil, "copies add"},
		"no such key":          {r, "google", []string{"none"}, "keys list"},
		"revoked":              {revoked, "google", []string{active}, "remove the key from the copy"},
		"not in the key set":   {r, "google", []string{other.KeyID()}, "no copy needs it"},
		"one good and one not": {r, "google", []string{next, "none"}, "keys list"},
	} {
		now := latest(tt.ring.Updated, epoch)
		if got, err := rotation.ConfirmCopy(tt.ring, tt.copy, now, tt.kid...); got != tt.ring || err == nil || !strings.Contains(text(err), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
		}
	}
}

// A copy that was seen to have lost the next key is waited for as if it had
// just been named.
func TestUnconfirmCopy(t *testing.T) {
	const day = 24 * time.Hour
	fresh := addCopy(t, addCopy(t, newRing(t, rotation.Policy{}), "google", epoch), "vault", epoch)
	active, next := fresh.Keys[0].KeyID, fresh.Keys[1].KeyID
	both := confirm(t, confirm(t, fresh, "google", epoch, active, next), "vault", epoch, active, next)
	planned := advance(t, both, epoch)
	activation := planned.Keys[1].SignFrom
	for _, tt := range []struct {
		name  string
		ring  *rotation.Ring
		now   time.Time
		kids  []string
		signs time.Time // from when on servers may sign anyway
		stays bool
	}{
		{"no date yet", both, epoch, []string{next}, time.Time{}, false},
		{"long before the activation", planned, epoch.Add(day), []string{next, active, "other"}, time.Time{}, false},
		{"just early enough for every server", planned, activation.Add(-day - 20*time.Minute), []string{next}, time.Time{}, false},
		{"an hour before", planned, activation.Add(-time.Hour), []string{next}, activation, false},
		{"it may be past on some clock", planned, activation.Add(-10 * time.Minute), []string{next}, activation, true},
		{"it signs", planned, activation, []string{next}, time.Time{}, true},
		{"another key", planned, epoch.Add(day), []string{active}, time.Time{}, true},
	} {
		r, signs, err := rotation.UnconfirmCopy(tt.ring, "google", tt.now, tt.kids...)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if !signs.Equal(tt.signs) {
			t.Errorf("%s: it may sign from %v, want %v", tt.name, signs, tt.signs)
		}
		if got := !r.Keys[1].SignFrom.IsZero(); got != tt.stays {
			t.Errorf("%s: the plan stays: %v", tt.name, got)
		}
		for i := range 2 {
			k, lost := &r.Keys[i], slices.Contains(tt.kids, r.Keys[i].KeyID)
			if got := slices.Equal(r.Lacking(k), []string{"google"}); got != lost {
				t.Errorf("%s: %v lack key %d", tt.name, r.Lacking(k), i)
			}
			if len(tt.ring.Lacking(&tt.ring.Keys[i])) > 0 {
				t.Errorf("%s: the ring before has changed", tt.name)
			}
		}
		if again, signs, err := rotation.UnconfirmCopy(r, "google", tt.now, tt.kids...); again != r || !signs.IsZero() || err != nil {
			t.Errorf("%s: a second time: %v, %v", tt.name, signs, err)
		}
		if _, err := rotation.Decode(encode(t, r, nil)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}

	// It is known anew from when the copy has it again.
	at := activation.Add(100 * day)
	lost, _, err := rotation.UnconfirmCopy(planned, "google", epoch.Add(day), next)
	if err != nil {
		t.Fatal(err)
	}
	back := advance(t, confirm(t, advance(t, lost, at), "google", at, next), at)
	if got := back.Keys[1].SignFrom; !got.Equal(at.Add(day)) {
		t.Errorf("it signs from %v, want %v", got, at.Add(day))
	}
	if r, _, err := rotation.UnconfirmCopy(planned, "gogle", epoch, next); r != planned || err == nil {
		t.Errorf("an unknown copy: %v", err)
	}
}

func TestRemoveCopy(t *testing.T) {
	before := newRing(t, rotation.Policy{})
	r := advance(t, addCopy(t, addCopy(t, before, "google", epoch), "vault", epoch), epoch)
	r = confirm(t, r, "google", epoch.Add(time.Hour))
	if _, err := rotation.RemoveCopy(r, "gogle", epoch.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "the copies of the ring are google, vault") {
		t.Errorf("an unknown copy: %v", err)
	}
	at := epoch.Add(1000 * time.Hour)
	if waits := advance(t, r, at); waits != r {
		t.Fatal("it does not wait for vault")
	}
	removed, err := rotation.RemoveCopy(r, "vault", at)
	if err != nil {
		t.Fatal(err)
	}
	if got := advance(t, removed, at).Keys[1].SignFrom; !got.Equal(at) {
		t.Errorf("without vault it signs from %v, want %v: google has had it for long", got, at)
	}
	if removed, err = rotation.RemoveCopy(removed, "google", at); err != nil {
		t.Fatal(err)
	}
	// Nothing is left that another program might not know.
	if data := encode(t, removed, nil); removed.Version != 1 || bytes.Contains(data, []byte("opies")) || bytes.Contains(data, []byte("opyConfirmedAt")) {
		t.Errorf("with no copies left:\n%s", data)
	}
	if got := r.Lacking(&r.Keys[0]); !slices.Equal(got, []string{"vault"}) {
		t.Errorf("the ring before has changed: %v lack the key", got)
	}
	back := advance(t, addCopy(t, removed, "google", at), at)
	if got := back.Waiting(at); got == nil || !slices.Equal(got.Copies, []string{"google"}) {
		t.Errorf("a copy that is named again: waits for %+v", got)
	}
}

func TestWaiting(t *testing.T) {
	r := newRing(t, rotation.Policy{})
	next := r.Keys[1].KeyID
	due := epoch.Add(720 * time.Hour)
	want := func(server bool, copies ...string) *rotation.Waiting {
		return &rotation.Waiting{KeyID: next, Server: server, Copies: copies, Due: due, By: due.Add(-24 * time.Hour)}
	}
	check := func(what string, r *rotation.Ring, want *rotation.Waiting) {
		t.Helper()
		if diff := cmp.Diff(want, r.Waiting(r.Updated)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("new", r, want(true))
	r = addCopy(t, addCopy(t, r, "b", epoch), "a", epoch)
	check("with copies", r, want(true, "b", "a"))
	r = confirm(t, r, "b", epoch)
	check("one has it", r, want(true, "a"))
	r = advance(t, r, epoch)
	check("published", r, want(false, "a"))
	r = confirm(t, r, "a", epoch)
	check("both have it", r, nil)
	check("planned", advance(t, r, epoch), nil)
}

func TestRotateAndRevokeWithCopies(t *testing.T) {
	r := advance(t, addCopy(t, newRing(t, rotation.Policy{}), "google", epoch), epoch)
	at := epoch.Add(100 * time.Hour)
	var early *rotation.TooEarlyError
	_, _, err := rotation.Rotate(r, at, false, generateEC)
	if !errors.As(err, &early) || early.Server || !slices.Equal(early.Copies, []string{"google"}) || !strings.Contains(hint.Of(err), "keys copies confirm google "+early.KeyID+"` on this store; {option.force} rotates anyway") {
		t.Errorf("before google has it: %v", err)
	}
	unpublished := addCopy(t, newRing(t, rotation.Policy{}), "google", epoch)
	if _, _, err := rotation.Rotate(unpublished, at, false, generateEC); !errors.As(err, &early) || !early.Server || !strings.Contains(err.Error(), "copy google") {
		t.Errorf("before any server has it: %v", err)
	}
	forced, _, err := rotation.Rotate(r, at, true, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	if active := forced.Active(at); !active.Forced || !slices.Equal(forced.Lacking(active), []string{"google"}) {
		t.Errorf("by force: forced %v, and %v lack it", active.Forced, forced.Lacking(active))
	}
	revoked, _, err := rotation.Revoke(r, r.Keys[0].KeyID, at, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	if active := revoked.Active(at); !active.Forced || !slices.Equal(revoked.Lacking(active), []string{"google"}) {
		t.Errorf("by revoking: forced %v, and %v lack it", active.Forced, revoked.Lacking(active))
	}
	r = confirm(t, r, "google", at)
	_, _, err = rotation.Rotate(r, at.Add(24*time.Hour-1), false, generateEC)
	if !errors.As(err, &early) || !early.From.Equal(at.Add(24*time.Hour)) {
		t.Errorf("a moment too early: %v", err)
	}
	rotated, _, err := rotation.Rotate(r, at.Add(24*time.Hour), false, generateEC)
	if err != nil || rotated.Active(rotated.Updated).Forced {
		t.Errorf("in time: %v", err)
	}
}

// A copy is a place where the world may have seen the keys.
func TestCopiesAreInUse(t *testing.T) {
	r := confirm(t, addCopy(t, newRing(t, rotation.Policy{}), "google", epoch), "google", epoch)
	if _, err := rotation.ImportSigning(r, simKeys[0], time.Hour, epoch); err == nil {
		t.Error("a private key was imported into a ring that a copy knows")
	}
	shorter, err := rotation.SetPolicy(r, rotation.Policy{PublishAhead: rotation.Duration(time.Hour)}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if got := shorter.Keys[1].PublishAhead; got != r.Keys[1].PublishAhead {
		t.Errorf("a key that a copy knows has a lead of %v now", got)
	}
}

func TestCopiesStayInTheRing(t *testing.T) {
	r := confirm(t, addCopy(t, newRing(t, rotation.Policy{}), "google", epoch), "google", epoch)
	key := simKeys[1].PublicKey
	for name, change := range map[string]func(*rotation.Ring) (*rotation.Ring, error){
		"import": func(r *rotation.Ring) (*rotation.Ring, error) {
			return rotation.ImportVerifying(r, key, false, epoch)
		},
		"reseal": func(r *rotation.Ring) (*rotation.Ring, error) { return rotation.Reseal(r, nil, epoch) },
		"policy": func(r *rotation.Ring) (*rotation.Ring, error) {
			return rotation.SetPolicy(r, rotation.Policy{Schedule: "@weekly"}, epoch)
		},
		"a document": func(r *rotation.Ring) (*rotation.Ring, error) { return rotation.Decode(encode(t, r, nil)) },
	} {
		next, err := change(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(r.Copies, next.Copies); diff != "" || next.Version != 2 {
			t.Errorf("%s: version %d, copies (-want +got):\n%s", name, next.Version, diff)
		}
		if diff := cmp.Diff(r.Keys[1].CopyConfirmedAt, next.Keys[1].CopyConfirmedAt); diff != "" {
			t.Errorf("%s: confirmations (-want +got):\n%s", name, diff)
		}
	}
}

// A server says what it waits for when that begins, and once more when the old
// key signs for longer than it should.
func TestRunTellsOfCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, 10*time.Minute)
		first := b.signs(t)
		change := func(f func(*rotation.Ring) (*rotation.Ring, error)) {
			t.Helper()
			if _, err := rotation.Update(t.Context(), b.store, rotation.Access{}, f); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		change(func(r *rotation.Ring) (*rotation.Ring, error) {
			r, _, err := rotation.AddCopy(r, "google", time.Now())
			return r, err
		})
		time.Sleep(700 * time.Hour)
		if n := strings.Count(b.log.String(), "waits for copies"); n != 1 {
			t.Errorf("logged %d times, want once\n%s", n, b.log)
		}
		time.Sleep(100 * time.Hour)
		if n := strings.Count(b.log.String(), "the rotation is due but waits for copies"); n != 1 {
			t.Errorf("logged %d times that it is due, want once\n%s", n, b.log)
		}
		if got := b.signs(t); got != first {
			t.Errorf("%s signs, and google lacks it", got)
		}
		if b.r.Failure() != nil || b.r.Failed() > 0 {
			t.Errorf("waiting is a failure: %v", b.r.Failure())
		}
		change(func(r *rotation.Ring) (*rotation.Ring, error) {
			return rotation.ConfirmCopy(r, "google", time.Now(), keySet(r)...)
		})
		time.Sleep(23 * time.Hour)
		if got := b.signs(t); got != first {
			t.Errorf("%s signs a day too early", got)
		}
		time.Sleep(2 * time.Hour)
		if got := b.signs(t); got == first {
			t.Error("no activation a day after google has the key")
		}
		if !strings.Contains(b.log.String(), "a copy has confirmed a key") {
			t.Errorf("the confirmation is not logged\n%s", b.log)
		}
	})
}
