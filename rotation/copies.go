package rotation

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Copy is a place that relying parties take the keys from and no server
// writes to: a key set that was uploaded to Google Cloud, public keys in Vault,
// files in a bucket. Somebody brings every new key there and says so with
// [ConfirmCopy]; a hand-over waits for that as it waits for the servers.
type Copy struct {
	Name string `json:"name"`
	// Since is when it was named.
	Since time.Time `json:"since"`
}

// maxCopies keeps a ring within what its store takes.
const maxCopies = 64

var copyName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

func checkCopyName(name string) error {
	if !copyName.MatchString(name) {
		return fmt.Errorf("%.100q does not name a copy: want up to 63 of a-z, 0-9, - . and _, with a letter or digit at both ends (hint: like google-prod)", name)
	}
	return nil
}

// AddCopy names a copy. What signs already goes on; the next key waits for the
// copy, also if its hand-over was planned. Servers that hear of that too late
// may follow the plan: then signs is from when on they may, copy or not. It is
// the planned time itself if that is so near that it stays. If the copy is
// there already AddCopy returns r itself.
func AddCopy(r *Ring, name string, now time.Time) (next *Ring, signs time.Time, err error) {
	if err := checkCopyName(name); err != nil {
		return r, time.Time{}, err
	}
	if r.hasCopy(name) {
		return r, time.Time{}, nil
	}
	if len(r.Copies) >= maxCopies {
		return r, time.Time{}, fmt.Errorf("the ring names %d copies already, and takes no more (hint: let those that are written together be one)", len(r.Copies))
	}
	if err := r.CheckClock(now); err != nil {
		return r, time.Time{}, err
	}
	next, now = r.begin(now)
	next.Copies = append(next.Copies, Copy{Name: name, Since: now})
	next.Version = next.version()
	return next, next.holdBack(now), nil
}

// holdBack takes the date of the next hand-over away. It returns from when on
// a replica may act on it all the same, zero if none does.
func (r *Ring) holdBack(now time.Time) (signs time.Time) {
	active, standby := r.Active(now), r.Standby(now)
	if standby == nil {
		return time.Time{}
	}
	skew, ahead := time.Duration(r.Policy.ClockSkew), time.Duration(r.Policy.PublishAhead)
	if now.Before(standby.MaySignUntil.Add(skew)) {
		signs = now // by a plan before this one
	}
	at := standby.SignFrom
	if at.IsZero() {
		return signs
	}
	// A replica whose last read was just before this ring is written, which may
	// be late by half of the skew, goes by the plan for PublishAhead, on a clock
	// that differs by up to the skew.
	heard := !at.Before(now.Add(ahead + 2*skew))
	if !heard && signs.IsZero() {
		signs = at
	}
	if !r.isAhead(at, now) {
		return signs
	}
	if !heard {
		r.withoutNotice(standby, now)
	}
	handOver(active, standby, time.Time{})
	return signs
}

// RemoveCopy forgets a copy and what it has acknowledged. What waited for it
// alone goes on.
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
		next.Keys[i].unacknowledge(name)
	}
	return next, nil
}

// ConfirmCopy notes that a copy has the keys with these kids. If that is known
// already it returns r itself.
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
			return r, fmt.Errorf("no key %q (hint: `oidc-provider keys list` shows the kids)", kid)
		case !k.Published():
			return r, fmt.Errorf("key %s is revoked: copy %s must not have it (hint: take it out there)", kid, name)
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

// UnconfirmCopy takes back that a copy has the keys with these kids: it was seen
// to lack them. If the next key is among them its hand-over waits for the copy
// again, and signs is as [AddCopy] returns it. If the copy has acknowledged none
// of them UnconfirmCopy returns r itself.
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
		k.unacknowledge(name)
		if k.Phase(now) == Next {
			signs = next.holdBack(now)
		}
	}
	if !lost {
		return r, time.Time{}, nil
	}
	return next, signs, nil
}

func (k *Key) unacknowledge(name string) {
	k.CopyConfirmedAt = maps.Clone(k.CopyConfirmedAt) // rings are immutable
	delete(k.CopyConfirmedAt, name)
}

func (k *Key) confirmCopy(name string, now time.Time) {
	acknowledged := map[string]time.Time{name: now}
	maps.Copy(acknowledged, k.CopyConfirmedAt) // not into it: rings are immutable
	k.CopyConfirmedAt = acknowledged
}

// Lacking are the copies that have not acknowledged k, in the order in which
// they were named. No copy needs a key that is not in the key set.
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

// KnownSince is from when on everybody who asks a server or goes by a copy
// gets k. Zero while one of them has not said so.
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

// Waiting is what keeps the hand-over to the next key from being planned.
type Waiting struct {
	KeyID string

	// Server says that no server has confirmed yet that it publishes the key,
	// and Copies which of them have not acknowledged it.
	Server bool
	Copies []string

	// Due is when the schedule hands over, and By until when nothing must be
	// left to wait for: after that, the active key signs for longer.
	By, Due time.Time
}

// Waiting is what the next hand-over waits for, nil if that is nothing.
func (r *Ring) Waiting(now time.Time) *Waiting {
	active, standby := r.Active(now), r.Standby(now)
	if active == nil || standby == nil || !standby.SignFrom.IsZero() {
		return nil
	}
	w := &Waiting{KeyID: standby.KeyID, Server: standby.ConfirmedAt.IsZero(), Copies: r.Lacking(standby)}
	if !w.Server && len(w.Copies) == 0 {
		return nil
	}
	if due, err := r.Policy.handOver(active.SignFrom, time.Time{}); err == nil {
		w.Due, w.By = due, due.Add(-time.Duration(standby.PublishAhead))
	}
	return w
}

// NameCopies is "copy a", or "the copies a, b" of several.
func NameCopies(names []string) string {
	if len(names) == 1 {
		return "copy " + names[0]
	}
	return "the copies " + strings.Join(names, ", ")
}

func (r *Ring) hasCopy(name string) bool {
	return slices.ContainsFunc(r.Copies, func(c Copy) bool { return c.Name == name })
}

// CheckCopy refuses a name that no copy has.
func (r *Ring) CheckCopy(name string) error {
	switch {
	case r.hasCopy(name):
		return nil
	case len(r.Copies) == 0:
		return fmt.Errorf("no copy %.100q: the ring names none (hint: `oidc-provider keys copies add NAME` does)", name)
	}
	return fmt.Errorf("no copy %.100q: the ring names %s", name, strings.Join(copyNames(r), ", "))
}

func copyNames(r *Ring) (names []string) {
	for _, c := range r.Copies {
		names = append(names, c.Name)
	}
	return names
}

// checkCopies is the part of check that is about copies.
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
			return fmt.Errorf("copy %q stands twice, or since no time", c.Name)
		}
		known[c.Name] = true
	}
	for i := range r.Keys {
		for name, at := range r.Keys[i].CopyConfirmedAt {
			if !known[name] || at.IsZero() {
				return fmt.Errorf("key %q is acknowledged by %.63q, which is no copy, or at no time", r.Keys[i].KeyID, name)
			}
		}
	}
	return nil
}
