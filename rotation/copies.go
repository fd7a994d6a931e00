package rotation

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"oidc-provider/internal/hint"
)

// A Copy is a copy of the key set that relying parties use and no server writes:
// a key set that was uploaded to Google Cloud, public keys in Vault, files in a
// bucket. An operator adds every new key there and confirms it with
// [ConfirmCopy]. Activations wait for that as they wait for the servers.
type Copy struct {
	Name string `json:"name"`
	// Since is when the copy was added to the ring.
	Since time.Time `json:"since"`
}

// maxCopies keeps a ring within the size that its store accepts.
const maxCopies = 64

var copyName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

func checkCopyName(name string) error {
	if !copyName.MatchString(name) {
		return hint.Errorf("choose a name like google-prod",
			"%.100q cannot name a copy: want up to 63 of a-z, 0-9, - . and _, with a letter or digit at both ends", name)
	}
	return nil
}

// AddCopy adds a copy to the ring. The active key keeps signing; the next key
// waits for the copy, even if its activation was planned. Servers that read of
// that too late may follow the plan: signs is the time from which they may sign
// with the key, whether the copy has it or not. It is the planned time itself if
// that is too close to be moved, and zero if no server can follow the plan. If
// the ring has the copy already, AddCopy returns r itself.
func AddCopy(r *Ring, name string, now time.Time) (next *Ring, signs time.Time, err error) {
	if err := checkCopyName(name); err != nil {
		return r, time.Time{}, err
	}
	if r.hasCopy(name) {
		return r, time.Time{}, nil
	}
	if len(r.Copies) >= maxCopies {
		return r, time.Time{}, hint.Errorf("use one name for copies that are updated together",
			"the ring has %d copies already and cannot have more", len(r.Copies))
	}
	if err := r.CheckClock(now); err != nil {
		return r, time.Time{}, err
	}
	next, now = r.begin(now)
	next.Copies = append(next.Copies, Copy{Name: name, Since: now})
	next.Version = next.version()
	return next, next.cancelActivation(now), nil
}

// cancelActivation removes the date of the next activation. It returns the time
// from which a replica may follow that date anyway, zero if none can.
func (r *Ring) cancelActivation(now time.Time) (signs time.Time) {
	active, standby := r.Active(now), r.Standby(now)
	if standby == nil {
		return time.Time{}
	}
	skew, ahead := time.Duration(r.Policy.ClockSkew), time.Duration(r.Policy.PublishAhead)
	if now.Before(standby.MaySignUntil.Add(skew)) {
		signs = now // according to an earlier plan
	}
	at := standby.SignFrom
	if at.IsZero() {
		return signs
	}
	// A replica whose last read was just before this ring is written, which may
	// be late by half of the skew, follows the plan for PublishAhead, on a clock
	// that differs by up to the skew.
	inTime := !at.Before(now.Add(ahead + 2*skew))
	if !inTime && signs.IsZero() {
		signs = at
	}
	if !r.isAhead(at, now) {
		return signs
	}
	if !inTime {
		r.withoutNotice(standby, now)
	}
	activate(active, standby, time.Time{})
	return signs
}

// RemoveCopy removes a copy from the ring, and its confirmations. An activation
// that waited only for this copy can be planned.
func RemoveCopy(r *Ring, name string, now time.Time) (*Ring, error) {
	if err := r.CheckCopy(name); err != nil {
		return r, err
	}
	if err := r.CheckClock(now); err != nil {
		return r, err
	}
	next, _ := r.begin(now)
	next.Copies = slices.DeleteFunc(next.Copies, func(c Copy) bool { return c.Name == name })
	next.Version = next.version()
	for i := range next.Keys {
		next.Keys[i].unconfirmCopy(name)
	}
	return next, nil
}

// ConfirmCopy notes that a copy has the keys with these kids. If the ring says so
// already, it returns r itself.
func ConfirmCopy(r *Ring, name string, now time.Time, kids ...string) (*Ring, error) {
	if err := errors.Join(r.CheckCopy(name), r.CheckClock(now)); err != nil {
		return r, err
	}
	next, now := r.begin(now)
	changed := false
	for _, kid := range kids {
		k := next.find(kid)
		switch {
		case k == nil:
			return r, r.errNoKey(kid)
		case !k.Published():
			return r, hint.Errorf("remove the key from the copy", "key %s is revoked: copy %s must not have it", kid, name)
		case !k.InKeySet():
			return r, fmt.Errorf("key %s is excluded from discovery: no copy needs it", kid)
		}
		if k.CopyConfirmedAt[name].IsZero() {
			k.confirmCopy(name, now)
			changed = true
		}
	}
	if !changed {
		return r, nil
	}
	return next, nil
}

// UnconfirmCopy notes that a copy has lost the keys with these kids. If the next
// key is among them, its activation waits for the copy again, and signs is the
// same as from [AddCopy]. If the copy has confirmed none of them, UnconfirmCopy
// returns r itself.
func UnconfirmCopy(r *Ring, name string, now time.Time, kids ...string) (next *Ring, signs time.Time, err error) {
	if err := errors.Join(r.CheckCopy(name), r.CheckClock(now)); err != nil {
		return r, time.Time{}, err
	}
	next, now = r.begin(now)
	lost := false
	for i := range next.Keys {
		k := &next.Keys[i]
		if !slices.Contains(kids, k.KeyID) || k.CopyConfirmedAt[name].IsZero() {
			continue
		}
		lost = true
		k.unconfirmCopy(name)
		if k.Phase(now) == Next {
			signs = next.cancelActivation(now)
		}
	}
	if !lost {
		return r, time.Time{}, nil
	}
	return next, signs, nil
}

func (k *Key) unconfirmCopy(name string) {
	k.CopyConfirmedAt = maps.Clone(k.CopyConfirmedAt) // rings are immutable
	delete(k.CopyConfirmedAt, name)
}

func (k *Key) confirmCopy(name string, now time.Time) {
	confirmed := map[string]time.Time{name: now}
	maps.Copy(confirmed, k.CopyConfirmedAt) // into the new map: rings are immutable
	k.CopyConfirmedAt = confirmed
}

// Lacking returns the copies that have not confirmed k, in the order in which
// they were added. No copy needs a key that is not in the key set.
func (r *Ring) Lacking(k *Key) (names []string) {
	if !k.InKeySet() {
		return nil
	}
	for _, c := range r.Copies {
		if k.CopyConfirmedAt[c.Name].IsZero() {
			names = append(names, c.Name)
		}
	}
	return names
}

// KnownSince returns the time from which relying parties receive k from every
// server and every copy. It returns zero while one of them has not confirmed it.
func (r *Ring) KnownSince(k *Key) time.Time {
	since := k.ConfirmedAt
	for _, c := range r.Copies {
		at := k.CopyConfirmedAt[c.Name]
		if at.IsZero() || since.IsZero() {
			return time.Time{}
		}
		since = latest(since, at)
	}
	return since
}

// Waiting says why the activation of the next key is not planned yet.
type Waiting struct {
	KeyID string

	// Server says that no server has confirmed yet that it publishes the key.
	// Copies are the copies that have not confirmed it.
	Server bool
	Copies []string

	// Due is when the schedule activates the key. By is when the last
	// confirmation must arrive for that: if it is later, the active key signs
	// for longer.
	By, Due time.Time
}

// Waiting returns what the next activation waits for, or nil.
func (r *Ring) Waiting(now time.Time) *Waiting {
	active, standby := r.Active(now), r.Standby(now)
	if active == nil || standby == nil || !standby.SignFrom.IsZero() {
		return nil
	}
	w := &Waiting{KeyID: standby.KeyID, Server: standby.ConfirmedAt.IsZero(), Copies: r.Lacking(standby)}
	if !w.Server && len(w.Copies) == 0 {
		return nil
	}
	if due, err := r.Policy.activation(active.SignFrom, time.Time{}); err == nil {
		w.Due, w.By = due, due.Add(-time.Duration(standby.PublishAhead))
	}
	return w
}

// NameCopies returns "copy a" or, for several, "the copies a, b".
func NameCopies(names []string) string {
	if len(names) == 1 {
		return "copy " + names[0]
	}
	return "the copies " + strings.Join(names, ", ")
}

func (r *Ring) hasCopy(name string) bool {
	return slices.ContainsFunc(r.Copies, func(c Copy) bool { return c.Name == name })
}

// CheckCopy returns an error if the ring has no copy with this name.
func (r *Ring) CheckCopy(name string) error {
	switch {
	case r.hasCopy(name):
		return nil
	case len(r.Copies) == 0:
		return hint.Errorf("`oidc-provider keys copies add NAME` adds one", "no copy %.100q: the ring has no copies", name)
	}
	return fmt.Errorf("no copy %.100q: the copies of the ring are %s", name, strings.Join(copyNames(r), ", "))
}

func copyNames(r *Ring) (names []string) {
	for _, c := range r.Copies {
		names = append(names, c.Name)
	}
	return names
}

// checkCopies is the part of check for copies.
func (r *Ring) checkCopies() error {
	if r.Version != r.version() || len(r.Copies) > maxCopies {
		return fmt.Errorf("version %d with %d copies", r.Version, len(r.Copies))
	}
	known := make(map[string]bool, len(r.Copies))
	for _, c := range r.Copies {
		if err := checkCopyName(c.Name); err != nil {
			return err
		}
		if known[c.Name] || c.Since.IsZero() {
			return fmt.Errorf("copy %q is in it twice, or without a time", c.Name)
		}
		known[c.Name] = true
	}
	for i := range r.Keys {
		for name, at := range r.Keys[i].CopyConfirmedAt {
			if !known[name] || at.IsZero() {
				return fmt.Errorf("key %q is confirmed by %.63q, which is not a copy, or without a time", r.Keys[i].KeyID, name)
			}
		}
	}
	return nil
}
