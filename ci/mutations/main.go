// Mutate breaks the rules of a key's life one at a time and runs the
// simulation against each broken version: a rule that can be broken unnoticed
// is one that nothing checks.
//
//	go run ./ci/mutations [TEXT]
//
// runs all, or those whose rule has TEXT in it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Each mutation replaces one text, which must occur exactly once in its file.
var mutations = []struct{ rule, file, old, new string }{
	{"there is always a next key", "lifecycle.go",
		"if r.Standby(now) != nil {\n\t\treturn nil",
		"if r.Standby(now) != nil || now.Unix()%7 == 0 {\n\t\treturn nil"},
	{"an activation waits for PublishAhead", "lifecycle.go",
		"r.KnownSince(standby).Add(time.Duration(standby.PublishAhead)), now)",
		"r.KnownSince(standby).Add(time.Duration(standby.PublishAhead)/2), now)"},
	{"PublishAhead counts from the confirmation", "copies.go",
		"since := k.ConfirmedAt", "since := k.PublishAt"},
	{"only a confirmed key is planned", "lifecycle.go",
		"standby.KeyID == confirmed", "true"},
	{"a failed publisher confirms nothing", "tick.go",
		"if len(errs) > 0 {", "if len(errs) > 1 {"},
	{"a confirmed key is planned", "lifecycle.go",
		"if !next.KnownSince(standby).IsZero() && standby.SignFrom.IsZero() {", "if false {"},
	{"a shorter PublishAhead does not count for keys that are out", "operate.go",
		"k.PublishAhead = max(k.PublishAhead, p.PublishAhead)", "k.PublishAhead = p.PublishAhead"},
	{"a shorter PublishAhead is news to caches", "create.go",
		"k.PublishAhead = r.lead(now)", "k.PublishAhead = r.Policy.PublishAhead"},
	{"a changed policy moves the activation", "operate.go",
		"activate(active, standby, time.Time{})", "_ = now"},
	{"retired keys stay for the token lifetime", "policy.go",
		"return p.MaxTokenLifetime + p.ClockSkew", "return p.ClockSkew"},
	{"retired keys stay for the skew", "policy.go",
		"return p.MaxTokenLifetime + p.ClockSkew", "return p.MaxTokenLifetime"},
	{"an activation without notice lengthens retention", "lifecycle.go",
		"k.MaySignUntil = latest(k.MaySignUntil, now.Add(time.Duration(r.Policy.PublishAhead+r.Policy.ClockSkew)))",
		"_ = now"},
	{"a longer lifetime lengthens every retention", "operate.go",
		"k.Retention = max(k.Retention, p.retention())", "_ = k"},
	{"a shorter lifetime shortens no retention", "operate.go",
		"k.Retention = max(k.Retention, p.retention())", "k.Retention = p.retention()"},
	{"retention starts when signing ends", "lifecycle.go",
		"return latest(k.SignUntil, k.MaySignUntil)", "return k.SignFrom"},
	{"a stale replica refuses to sign", "rotator.go",
		"if limit := time.Duration(v.ring.Policy.PublishAhead); age > limit {",
		"if limit := time.Duration(v.ring.Policy.PublishAhead); age > 10000*limit {"},
	{"a failed read does not count as one", "tick.go",
		"ring, err := r.reader.read(ctx, known)\n\tif err != nil {",
		"ring, err := r.reader.read(ctx, known)\n\tif err != nil {\n\t\tr.read.Store(&now)"},
	{"rotate refuses an unpublished key", "operate.go",
		"next.checkPublishedAhead(standby, now); err != nil && !force",
		"next.checkPublishedAhead(standby, now); err != nil && false"},
	{"revoked keys are not published", "lifecycle.go",
		"return k.RevokedAt.IsZero() && !k.struck }", "return !k.struck }"},
	{"revoking the active key activates the next one", "operate.go",
		"events = next.promote(k, next.Standby(now), now)[1:]", "_ = events"},
	{"revoking the next key cancels its activation", "operate.go",
		"next.Active(now).SignUntil = time.Time{}", "_ = now"},
	{"a removed kid is remembered", "lifecycle.go",
		"r.Removed = append(r.Removed, k.KeyID)", "_ = r"},
	{"a removed key never returns", "create.go",
		"if slices.Contains(r.Removed, kid) {", "if slices.Contains(r.Removed, kid) && false {"},
	{"private halves are kept until the last clock has moved on", "lifecycle.go",
		"return last.Add(time.Duration(p.ClockSkew))", "return k.Created"},
	{"the ring's newest event is past", "lifecycle.go",
		"return latest(now.Round(0).UTC(), r.Updated)", "return now.Round(0).UTC()"},
	{"a ring is written before it is used", "writer.go",
		"case errors.Is(err, ErrConflict):\n\t\treturn &View{ring: ring}, err",
		"case errors.Is(err, ErrConflict):\n\t\treturn &View{ring: next}, err"},
	{"a lost answer leaves the old ring in force", "writer.go",
		"&View{ring: ring, pending: next}", "&View{ring: next}"},
	{"unreadable data is an error", "reader.go",
		"ring, err := Decode(data)\n\tif err != nil {\n\t\treturn nil, err\n\t}",
		"ring, err := Decode(data)\n\tif err != nil {\n" +
			"\t\tring, _ = New(r.issuer, Policy{}, time.Now(), GenerateKey)\n\t}"},
	{"the ring of another issuer is an error", "reader.go",
		"if err := ring.CheckIssuer(r.issuer); err != nil {", "if false {\n\t\tvar err error"},
	{"private keys of a sealed ring are sealed", "seal.go",
		"if len(r.Recipients) == 0 {\n\t\t\tk.Private = der", "if true {\n\t\t\tk.Private = der"},
	{"a sealed key belongs to its public key", "seal.go",
		"k.Sealed, err = s.Seal(ctx, r.Recipients, der)", "k.Sealed, err = s.Seal(ctx, r.Recipients, der[:len(der)-1])"},
	{"an old backup is refused", "seen.go",
		"if reason := r.contradicts(seen); reason != \"\" {", "if reason := r.contradicts(seen); false {"},
	{"what was seen is remembered across restarts", "reader.go",
		"r.seen = append(r.seen[:len(r.seen):len(r.seen)], *seen)", "_ = seen"},
	{"an activation waits for copies", "copies.go",
		"if at.IsZero() || since.IsZero() {", "if since.IsZero() {"},
	{"PublishAhead counts from the confirmation of a copy", "copies.go",
		"since = latest(since, at)", "_ = at"},
	{"an activation that was planned waits for a new copy", "copies.go",
		"activate(active, standby, time.Time{})", "_ = active"},
	{"replicas that follow the old plan are reported with a new copy", "copies.go",
		"if !inTime && signs.IsZero() {", "if false {"},
	{"replicas that follow a plan before that are reported as well", "copies.go",
		"if now.Before(standby.MaySignUntil.Add(skew)) {", "if false {"},
	{"the confirmations of a copy are removed with it", "copies.go",
		"delete(k.CopyConfirmedAt, name)", "_ = k"},
	{"a confirmation is for one key", "copies.go",
		"k.confirmCopy(name, now)",
		"for i := range next.Keys {\n\t\t\t\tnext.Keys[i].confirmCopy(name, now)\n\t\t\t}"},
	{"a ring is signed by a writer that is trusted", "trust.go",
		"func(id WriterID) bool { return trusted[id] }", "func(id WriterID) bool { return trusted[id] || true }"},
	{"only a signature that fits counts", "document.go",
		"!w.RevokeOnly && s.Writer.verify(message, s.Signature)", "!w.RevokeOnly"},
	{"a writer that may only revoke does not sign", "document.go",
		"w != nil && !w.RevokeOnly && s.Writer", "w != nil && s.Writer"},
	{"only an endorsement that fits counts", "writers.go",
		"&& s.Writer.verify(w.endorsement(r.Issuer), s.Signature)", ""},
	{"a writer that may only revoke cannot vouch for others", "writers.go",
		"(by == nil || !by.RevokeOnly)", "(by != nil || by == nil)"},
	{"a role cannot be changed", "writers.go",
		"if w.RevokeOnly {\n\t\trole", "if false {\n\t\trole"},
	{"a signed ring never becomes one that is not", "trust.go",
		"case len(t.writers) > 0:", "case false:"},
	{"an unsigned ring is refused where an identity could have signed it", "trust.go",
		"case t.hasIdentity():\n", "case false:\n"},
	{"a removed writer never returns", "trust.go",
		"r.trusts(anchors, t.removed)", "r.trusts(anchors, nil)"},
	{"an operator changes no ring that is not trusted", "store.go",
		"if err := a.Verify(ctx, old); err != nil {", "if err := a.Verify(ctx, old); false {"},
	{"only a writer revokes", "document.go",
		"s.Writer.verify(revocationMessage(r.Issuer, s.KeyID), s.Signature.Signature)", "s.KeyID != \"\""},
	{"a revocation is obeyed at once", "lifecycle.go",
		"return k.RevokedAt.IsZero() && !k.struck }", "return k.RevokedAt.IsZero() }"},
	{"a revocation that was taken away is remembered", "seal.go",
		"k.struck = k.struck || before.struck", "_ = k"},
	{"a revocation is remembered across restarts", "reader.go",
		"ring.strike(s.Struck)", "_ = s"},
	{"a revocation is written into the ring", "document.go",
		"k.struck && k.RevokedAt.IsZero() && (struck", "false && (struck"},
	{"a revocation does not wait for a clock", "tick.go",
		"if ring.struck(now) == nil {", "if true {"},
	{"a fork is refused", "seen.go",
		"return r.source.digest == seen.Digest", "return true"},
	{"a clock that is not confirmed changes nothing", "clock.go",
		"if err := v.check(now, skew); err != nil {", "if false {\n\t\tvar err error"},
	{"what contradicts a clock wins", "clock.go",
		"case v.wrong != nil:", "case false:"},
	{"a jump ends the confirmation of a clock", "clock.go",
		"v.confirmed.IsZero() || Jumped(v.confirmed, now).Abs() > skew", "v.confirmed.IsZero()"},
	{"a clock that is not confirmed follows no activation", "clock.go",
		"if ring.Active(at).KeyID != ring.Active(ring.Updated).KeyID {", "if false {"},
	{"a clock that is behind keeps signing", "clock.go",
		"if ring.Active(at).KeyID != ring.Active(ring.Updated).KeyID {", "if ring.CheckClock(now) != nil {"},
	{"a clock that is right does not follow a ring from the future", "clock.go",
		"if !v.isFuture(ring, now) {", "if true {"},
	{"a ring is not changed before its own time", "tick.go",
		"if err != nil || now.Before(ring.Updated) {", "if err != nil {"},
	{"a ring whose clock was repaired is accepted", "seen.go",
		"r.Updated.Before(seen.Updated) && !r.repaired(seen)", "r.Updated.Before(seen.Updated)"},
	{"a repair takes back activations", "repair.go",
		"k.SignFrom, k.SignUntil, k.Forced = time.Time{}, time.Time{}, false", "_ = k"},
	{"a key whose activation was taken back may have signed", "repair.go",
		"r.withoutNotice(k, now)\n\t\tk.SignFrom", "k.SignFrom"},
	{"a repair is not earlier than what has happened", "repair.go",
		"now = r.lastEvent(now)", "now = now.Round(0).UTC()"},
	{"a repair bounds how long a key may sign", "repair.go",
		"k.MaySignUntil = earliest(k.MaySignUntil, until)", "_ = until"},
	{"a repair moves a revocation to now", "repair.go",
		"earliest(k.RevokedAt, now)", "k.RevokedAt"},
	{"a repair moves the confirmation of a copy to now", "repair.go",
		"earliest(at, now)\n\t\t}", "at\n\t\t}"},
	{"secrets do not print", "ring.go",
		"io.WriteString(s, \"[secret]\")", "enc, _ := json.Marshal([]byte(x)); io.WriteString(s, string(enc))"},
}

func main() {
	if out, err := simulate(); err != nil {
		fmt.Printf("the simulation fails with nothing broken:\n%s", out)
		os.Exit(1)
	}
	var run, missed int
	for _, m := range mutations {
		if len(os.Args) > 1 && !strings.Contains(m.rule, os.Args[1]) {
			continue
		}
		run++
		caught, how, err := try(m.file, m.old, m.new)
		switch {
		case err != nil:
			fmt.Printf("BROKEN  %s: %v\n", m.rule, err)
			missed++
		case caught:
			fmt.Printf("caught  %s: %s\n", m.rule, how)
		default:
			fmt.Printf("MISSED  %s\n", m.rule)
			missed++
		}
	}
	fmt.Printf("%d rules broken, %d unnoticed\n", run, missed)
	if missed > 0 {
		os.Exit(1)
	}
}

var finding = regexp.MustCompile(`(?m)(invariant \d: .*|progress: .*|panic(?: after|:) .*)`)

func try(file, old, new string) (caught bool, how string, err error) {
	path, err := filepath.Abs(filepath.Join("rotation", file))
	if err != nil {
		return false, "", err
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return false, "", err
	}
	if n := strings.Count(string(source), old); n != 1 {
		return false, "", fmt.Errorf("the text to replace occurs %d times in %s", n, file)
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return false, "", err
	}
	defer os.RemoveAll(dir)
	mutated := filepath.Join(dir, file)
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), old, new, 1)), 0o600); err != nil {
		return false, "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mutated}})
	if err != nil {
		return false, "", err
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return false, "", err
	}
	start := time.Now()
	out, err := simulate("-overlay", overlayFile)
	if strings.Contains(string(out), "[build failed]") {
		return false, "", fmt.Errorf("does not compile:\n%s", out)
	}
	found := finding.FindString(string(out))
	if err != nil && found == "" {
		return false, "", fmt.Errorf("fails without naming an invariant:\n%s", out)
	}
	return err != nil, fmt.Sprintf("%s (%v)", found, time.Since(start).Round(time.Second)), nil
}

// simulate runs the simulation with a fixed seed: what it finds is due to the
// mutation, since it finds nothing without.
func simulate(flags ...string) ([]byte, error) {
	args := append([]string{"test", "-vet=off", "-run", "^TestSimulation", "-count=1"}, flags...)
	args = append(args, "./rotation", "-rapid.seed=7", "-rapid.checks=400", "-rapid.nofailfile", "-rapid.shrinktime=1s")
	return exec.Command("go", args...).CombinedOutput()
}
