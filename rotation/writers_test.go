package rotation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/store"
	"oidc-provider/rotation"
)

// signedRing returns a ring of alice and bob, as it was written by alice.
func signedRing(t testing.TB) *rotation.Ring {
	t.Helper()
	r, err := rotation.New(simIssuer, rotation.Policy{}, epoch, generateEC)
	if err != nil {
		t.Fatal(err)
	}
	r.Recipients = []string{"alice", "bob"}
	if r, err = rotation.Enroll(t.Context(), r, &box{owner: "alice"}, nil, epoch); err != nil {
		t.Fatal(err)
	}
	return written(t, r, &box{owner: "alice"})
}

func TestWriterID(t *testing.T) {
	id := writerID(&box{owner: "alice"})
	if back, err := rotation.ParseWriterID(id.String()); err != nil || back != id {
		t.Errorf("%v, %v", back, err)
	}
	for _, text := range []string{"", "ed25519:", id.String()[8:], id.String() + "A", strings.Replace(id.String(), "ed25519", "rsa", 1), "ed25519:" + strings.Repeat("=", 43)} {
		if _, err := rotation.ParseWriterID(text); err == nil || hint.Of(err) == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A ring that was never signed, and what comes after it.
func TestEnroll(t *testing.T) {
	alice := &box{owner: "alice"}
	r, err := rotation.Decode(sealedRing(t))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := rotation.Enroll(t.Context(), r, alice, nil, epoch)
	if err != nil {
		t.Fatal(err)
	}
	signed = written(t, signed, alice)
	if signed.Generation != r.Generation+1 || signed.Version != 3 || len(signed.Signers()) != 1 {
		t.Errorf("generation %d, version %d, signed by %v", signed.Generation, signed.Version, signed.Signers())
	}
	if err := signed.CheckAgainst(r.Seen()); err != nil {
		t.Error(err)
	}
	again, err := rotation.Enroll(t.Context(), signed, alice, nil, epoch)
	if err != nil || again != signed {
		t.Errorf("a writer is added twice: %v", err)
	}
	next, err := rotation.SetPolicy(signed, rotation.Policy{Schedule: "@weekly"}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	next = written(t, next, alice)
	for _, seen := range []rotation.Seen{r.Seen(), signed.Seen(), next.Seen()} {
		if err := next.CheckAgainst(seen); err != nil {
			t.Error(err)
		}
	}
	if _, err := next.Seal(t.Context(), nil); err != nil {
		t.Errorf("a ring that is not changed needs no key: %v", err)
	}
	next.Changed()
	for _, other := range []rotation.Sealer{nil, &box{}, &box{owner: "bob"}} {
		if _, err := next.Seal(t.Context(), other); err == nil || hint.Of(err) == "" {
			t.Errorf("%v signs: %v", other, err)
		}
	}
}

func TestAddAndRemoveWriters(t *testing.T) {
	alice, bob := &box{owner: "alice"}, &box{owner: "bob"}
	trusts := func(r *rotation.Ring, anchor *box) error {
		return rotation.Access{Signers: []rotation.WriterID{writerID(anchor)}}.Verify(t.Context(), r)
	}
	r := signedRing(t)
	if trusts(r, alice) != nil || trusts(r, bob) == nil {
		t.Error("a ring is trusted because of a recipient that has not signed it")
	}
	r, err := rotation.AddWriter(t.Context(), r, alice, rotation.Writer{ID: writerID(bob), Name: "bob"}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	r = written(t, r, bob)
	if err := trusts(r, alice); err != nil {
		t.Errorf("who trusts alice does not trust bob: %v", err)
	}
	if err := trusts(written(t, changed(t, r), alice), bob); err == nil {
		t.Error("who trusts bob trusts alice, for whom he has not vouched")
	}
	for name, err := range map[string]error{
		"itself": second(rotation.RemoveWriter(t.Context(), r, alice, writerID(alice).String(), epoch)),
		"nobody": second(rotation.RemoveWriter(t.Context(), r, alice, "carol", epoch)),
		"a role": second(rotation.AddWriter(t.Context(), r, alice, rotation.Writer{ID: writerID(bob), Name: "bob", RevokeOnly: true}, epoch)),
		"a name": second(rotation.AddWriter(t.Context(), r, alice, rotation.Writer{ID: rotation.WriterID{1}, Name: "\x1b[2J"}, epoch)),
	} {
		if err == nil || hint.Of(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r, err = rotation.RemoveWriter(t.Context(), r, bob, "alice", epoch); err != nil {
		t.Fatal(err)
	}
	r = written(t, r, bob)
	if err := trusts(r, alice); err != nil {
		t.Errorf("who trusted alice before does not trust bob, for whom she has vouched: %v", err)
	}
	if _, err := rotation.AddWriter(t.Context(), r, bob, rotation.Writer{ID: writerID(alice), Name: "alice"}, epoch); err == nil {
		t.Error("a removed writer came back")
	}
}

// A new identity takes the place of another, and its writer that of the other.
func TestResealReplacesWriters(t *testing.T) {
	both := &box{owner: "alice carol"}
	r, err := signedRing(t).Unseal(t.Context(), both)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rotation.Reseal(r, []string{"carol"}, epoch); err == nil {
		t.Error("nobody is left to sign the ring")
	}
	if r, err = rotation.Enroll(t.Context(), r, both, []string{"carol"}, epoch); err == nil {
		r, err = rotation.Reseal(r, []string{"carol"}, epoch)
	}
	if err != nil {
		t.Fatal(err)
	}
	r = written(t, r, both)
	if len(r.Writers) != 1 || r.Writers[0].Name != "carol" || len(r.RemovedWriters) != 1 {
		t.Errorf("writers %v, removed %v", r.Writers, r.RemovedWriters)
	}
	if err := (rotation.Access{Sealer: &box{owner: "carol"}}).Verify(t.Context(), r); err != nil {
		t.Error(err)
	}
	if err := (rotation.Access{Signers: []rotation.WriterID{writerID(&box{owner: "alice"})}}).Verify(t.Context(), r); err != nil {
		t.Errorf("who trusted alice does not trust carol: %v", err)
	}
}

// What is restored from a backup that is sealed for others comes after the ring.
func TestBackup(t *testing.T) {
	alice, safe := &box{owner: "alice"}, &box{owner: "safe"}
	r := signedRing(t)
	data, err := rotation.Backup(t.Context(), r, []string{"safe"}, alice)
	if err != nil {
		t.Fatal(err)
	}
	var untrusted *rotation.UntrustedError
	if _, err := rotation.Decode(data); !errors.As(err, &untrusted) || !strings.Contains(hint.Of(err), "keys restore") {
		t.Errorf("a server uses it: %v", err)
	}
	backup, err := rotation.DecodeBackup(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rotation.Restored(t.Context(), backup, rotation.Access{Sealer: safe}, epoch); !errors.As(err, &untrusted) {
		t.Errorf("a backup of an unknown writer is signed: %v", err)
	}
	access := rotation.Access{Sealer: safe, Signers: []rotation.WriterID{writerID(alice)}}
	restored, err := rotation.Restored(t.Context(), backup, access, epoch)
	if err != nil {
		t.Fatal(err)
	}
	restored = written(t, restored, safe)
	if err := restored.CheckAgainst(r.Seen()); err != nil || restored.Generation != r.Generation+1 {
		t.Errorf("generation %d: %v", restored.Generation, err)
	}
	if _, err := restored.Unseal(t.Context(), safe); err != nil {
		t.Error(err)
	}
	forged := bytes.Replace(data, []byte("safe"), []byte("evil"), 1)
	if _, err := rotation.DecodeBackup(forged); !errors.As(err, &untrusted) {
		t.Errorf("a backup was changed: %v", err)
	}
	whole, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if same, err := rotation.DecodeBackup(whole); err != nil || same.Generation != r.Generation {
		t.Errorf("a copy of the ring: %v", err)
	}
}

// Too many signatures are refused before they cost anything.
func TestManySignatures(t *testing.T) {
	data, err := signedRing(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	one := fmt.Sprintf(`{"writer":%q,"signature":"AAAA"},`, writerID(adversary))
	for _, many := range [][]byte{
		bytes.Replace(data, []byte(`"signatures": [`), []byte(`"signatures": [`+strings.Repeat(one, 10_000)), 1),
		bytes.Replace(data, []byte(`"since"`), []byte(`"endorsements": [`+strings.Repeat(one, 10_000)[:10_000*len(one)-1]+`], "since"`), 1),
	} {
		if _, err := rotation.Decode(many); err == nil || !strings.Contains(err.Error(), "at most") && !strings.Contains(err.Error(), "too many") {
			t.Errorf("%.200v", err)
		}
	}
}

// A server that only publishes, and has nothing that says whom to trust.
func TestFirstUse(t *testing.T) {
	open := func(r *rotation.Ring, memory rotation.Store) error {
		s := new(store.Memory)
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Swap(t.Context(), data, ""); err != nil {
			t.Fatal(err)
		}
		_, err = rotation.OpenAt(t.Context(), rotation.Config{Store: s, Issuer: simIssuer, PublishOnly: true, RollbackState: memory, Log: slog.New(slog.DiscardHandler)}, epoch)
		return err
	}
	r := signedRing(t)
	var untrusted *rotation.UntrustedError
	if err := open(r, nil); !errors.As(err, &untrusted) || !strings.Contains(hint.Of(err), writerID(&box{owner: "alice"}).String()) {
		t.Errorf("without rollback state: %v", err)
	}
	memory := new(store.Memory)
	for range 2 {
		if err := open(r, memory); err != nil {
			t.Errorf("with rollback state: %v", err)
		}
	}
	other, err := rotation.New(simIssuer, rotation.Policy{}, epoch, generateEC)
	if err == nil {
		other, err = rotation.Enroll(t.Context(), other, adversary, nil, epoch)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := open(written(t, other, adversary), memory); !errors.As(err, &untrusted) {
		t.Errorf("another writer, later: %v", err)
	}
	if err := open(r, memory); err != nil {
		t.Errorf("and the ring again: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// changed returns r with a change that is not written yet.
func changed(t testing.TB, r *rotation.Ring) *rotation.Ring {
	t.Helper()
	next, err := rotation.SetPolicy(r, rotation.Policy{Schedule: "@weekly"}, r.Updated.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// BenchmarkDecode is what a server pays for each ring that it reads.
func BenchmarkDecode(b *testing.B) {
	signed, err := signedRing(b).Encode()
	if err != nil {
		b.Fatal(err)
	}
	for name, data := range map[string][]byte{"unsigned": sealedRing(b), "signed": signed} {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(float64(len(data)), "bytes")
			access := rotation.Access{Sealer: &box{owner: "alice"}, AllowUnsigned: true}
			for b.Loop() {
				r, err := rotation.Decode(data)
				if err == nil {
					err = access.Verify(b.Context(), r)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A writer is trusted after the one that vouched for it was removed.
func TestVouchAgain(t *testing.T) {
	both, operator := &box{owner: "alice carol"}, &box{owner: "operator"}
	r, err := rotation.AddWriter(t.Context(), signedRing(t), both,
		rotation.Writer{ID: writerID(operator), Name: "operator"}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = written(t, r, both).Unseal(t.Context(), both); err != nil {
		t.Fatal(err)
	}
	if r, err = rotation.Enroll(t.Context(), r, both, []string{"carol"}, epoch); err == nil {
		r, err = rotation.Reseal(r, []string{"carol"}, epoch)
	}
	if err != nil {
		t.Fatal(err)
	}
	r = written(t, changed(t, written(t, r, both)), operator)
	if err := (rotation.Access{Sealer: &box{owner: "carol"}}).Verify(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// Revocations that wait for a server: the same one twice, and a writer that is removed.
func TestPendingRevocations(t *testing.T) {
	alice, glass := &box{owner: "alice"}, &box{owner: "glass"}
	r, err := rotation.AddWriter(t.Context(), signedRing(t), alice,
		rotation.Writer{ID: writerID(glass), Name: "glass", RevokeOnly: true}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	s := new(store.Memory)
	if err := rotation.Create(t.Context(), s, alice, r); err != nil {
		t.Fatal(err)
	}
	access := rotation.Access{Sealer: glass, Signers: []rotation.WriterID{writerID(alice)}}
	if err := rotation.RevokeAlone(t.Context(), s, access, r.Keys[0].KeyID); err != nil {
		t.Fatal(err)
	}
	data, version, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	one := strings.Trim(string(doc["revocations"]), "[] \n")
	many := []byte("[" + strings.Repeat(one+",", 63) + one + "]")
	if err := s.Swap(t.Context(), bytes.Replace(data, doc["revocations"], many, 1), version); err != nil {
		t.Fatal(err)
	}
	if err := rotation.RevokeAlone(t.Context(), s, access, r.Keys[1].KeyID); err != nil {
		t.Fatal(err)
	}
	if r, err = rotation.Read(t.Context(), s); err != nil {
		t.Fatalf("copies of a revocation prevent another: %v", err)
	}
	if r.Keys[0].Published() || r.Keys[1].Published() {
		t.Error("a revoked key is published")
	}
	if _, err := rotation.RemoveWriter(t.Context(), r, alice, "glass", epoch); err == nil || hint.Of(err) == "" {
		t.Errorf("a revoked key comes back: %v", err)
	}
}

// BenchmarkTick is what a server pays twice a second while nothing changes.
func BenchmarkTick(b *testing.B) {
	signed, err := signedRing(b).Encode()
	if err != nil {
		b.Fatal(err)
	}
	for name, data := range map[string][]byte{"unsigned": sealedRing(b), "signed": signed} {
		b.Run(name, func(b *testing.B) {
			s := new(store.Memory)
			if err := s.Swap(b.Context(), data, ""); err != nil {
				b.Fatal(err)
			}
			r, err := rotation.OpenAt(b.Context(), rotation.Config{
				Store: s, Issuer: simIssuer, Access: rotation.Access{Sealer: &box{owner: "alice"}, AllowUnsigned: true},
				Generate: generateEC,
				Log:      slog.New(slog.DiscardHandler),
			}, epoch)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := r.Tick(b.Context(), epoch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
