package seal_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	kmsapi "k8s.io/kms/apis/v2"
	"k8s.io/kms/pkg/service"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/seal"
	"oidc-provider/internal/seal/kmstest"
)

// writers returns the public keys of s by recipient.
func writers(t testing.TB, s *seal.Sealer, seed []byte) map[string]ed25519.PublicKey {
	t.Helper()
	keys, err := s.WriterKeys(context.Background(), seed)
	if err != nil {
		t.Fatal(err)
	}
	public := map[string]ed25519.PublicKey{}
	for _, k := range keys {
		if !ed25519.Verify(k.Public(), []byte("x"), k.Sign([]byte("x"))) {
			t.Errorf("the signature of %v is invalid", k)
		}
		public[k.Recipient] = k.Public()
	}
	if len(public) != len(keys) {
		t.Errorf("two keys have one recipient: %v", keys)
	}
	return public
}

func newSeed(t testing.TB, s *seal.Sealer) []byte {
	t.Helper()
	seed, err := s.NewWriterSeed(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

// wantOnlyAge checks that seed does not open, and that the keys of age remain.
func wantOnlyAge(t testing.TB, s *seal.Sealer, seed []byte, want kind, words ...string) {
	t.Helper()
	keys, err := s.WriterKeys(context.Background(), seed)
	wantErr(t, err, want, words...)
	for _, k := range keys {
		if k.Recipient == "kms" {
			t.Error("there is a key for kms")
		}
	}
	if len(keys) != len(writers(t, s, nil)) {
		t.Errorf("the keys are %v", keys)
	}
}

// The public keys of the identities in fuzz_test.go, and of a seed for the plugin of
// the tests. Existing rings are signed with such keys: these may never change.
const (
	classicWriter     = "a529366c63aa481ce2cd8db75ba07918bd892bd4fc985cd399d9efe9d6f4045e"
	postQuantumWriter = "471c2a59084ce4583017edfbad33c1c54a5fcf0fbbf2b192ad35c2c2e19f9ee3"
	seedWriter        = "16141cbdac7df32c0788c3ca83ca19676999a3968f8a7c53deae54696991c4f3"
	goldenSeed        = "0a5b2a850f08a447e20f4402d8aa5b464d3dbe0a2f976a0eccdd1261d30b0e2dfb29ea92c006491563b626c8ea35af655c20" +
		"9b03fb54daf5dba85ed6d621746a27b0b41e091fad3a852d7256406fea12b713c978652ed34ad52fa355a71a056b65792d31" +
		"221b0a156f746865722e6b6d732e6578616d706c652e636f6d120200ff223b0a137569642e6b6d732e6578616d706c652e63" +
		"6f6d122464633661316238312d333133392d343630372d613934362d303939336239373737653736"
)

func fuzzSeed(t testing.TB) []byte {
	t.Helper()
	data, err := hex.DecodeString(goldenSeed)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWriterKeysAreStable(t *testing.T) {
	file, path := writeFile(t, fuzzClassic+"\n"+fuzzPostQuantum, 0o600), kmstest.Socket(t)
	t.Cleanup(kmstest.New(t).Start(t, path))
	s := open(t, seal.Config{IdentityFiles: []string{file, file}, KMSSocket: path})
	keys, err := s.WriterKeys(context.Background(), fuzzSeed(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range keys {
		got = append(got, fmt.Sprintf("%.7s %x", k.Recipient, []byte(k.Public())))
	}
	want := []string{"age1cge " + classicWriter, "age1pq1 " + postQuantumWriter, "kms " + seedWriter}
	if !slices.Equal(got, want) {
		t.Errorf("the keys are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWriterKeysDiffer(t *testing.T) {
	a, b, pq := classic(t), classic(t), postQuantum(t)
	all := writers(t, with(t, a, b, pq), nil)
	if len(all) != 3 || all[a.recipient].Equal(all[b.recipient]) || all[a.recipient].Equal(all[pq.recipient]) {
		t.Errorf("the keys are %x", all)
	}
	if alone := writers(t, with(t, b), nil); !alone[b.recipient].Equal(all[b.recipient]) {
		t.Error("a key depends on other identities")
	}
	if none := writers(t, new(seal.Sealer), []byte("a seed")); len(none) != 0 {
		t.Errorf("a Sealer without identities has %v", none)
	}
}

func TestWriterSeed(t *testing.T) {
	id := classic(t)
	if seed := newSeed(t, with(t, id)); seed != nil {
		t.Errorf("without a plugin, the seed is %x", seed)
	}
	k, s, path := plugged(t, id)
	seed, other := newSeed(t, s), newSeed(t, s)
	if got, want := k.Called(), "Decrypt 2, Encrypt 2, Status 1"; got != want {
		t.Errorf("two seeds called %s; want %s", got, want)
	}
	for _, given := range k.Plain {
		wantNoRun(t, seed, given)
	}
	first := writers(t, s, seed)
	if len(first) != 2 || len(first["kms"]) == 0 {
		t.Fatalf("the keys are %x", first)
	}
	if second := writers(t, s, other); second["kms"].Equal(first["kms"]) {
		t.Error("two seeds have the same key")
	}
	if only := writers(t, with(t, id), seed); len(only) != 1 {
		t.Errorf("without a plugin, the keys are %x", only)
	}

	// Another process has the same key, also after the plugin has another one.
	k.Rotate(t, "key-2")
	if again := writers(t, open(t, seal.Config{KMSSocket: path}), seed); !again["kms"].Equal(first["kms"]) {
		t.Error("another process has another key")
	}

	// A seed that was opened needs no plugin.
	k.Called()
	writers(t, s, seed)
	if got := k.Called(); got != "" {
		t.Errorf("an opened seed calls %s", got)
	}
}

func TestWriterSeedWithoutPlugin(t *testing.T) {
	k, path, id := kmstest.New(t), kmstest.Socket(t), classic(t)
	s := open(t, seal.Config{IdentityFiles: []string{id.file}, KMSSocket: path})
	_, err := s.NewWriterSeed(context.Background())
	wantErr(t, err, unreachable, path)
	stop := k.Start(t, path)
	maker := open(t, seal.Config{KMSSocket: path})
	seed, other := newSeed(t, maker), newSeed(t, maker)
	before := writers(t, maker, seed)
	stop()
	wantOnlyAge(t, s, seed, unreachable, path)
	wantOnlyAge(t, maker, other, unreachable, path)
	if after := writers(t, maker, seed); !after["kms"].Equal(before["kms"]) {
		t.Error("the key of an opened seed changes")
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if keys, err := s.WriterKeys(ctx, seed); !errors.Is(err, context.Canceled) || len(keys) != 1 {
		t.Errorf("cancelled: %v, %v", keys, err)
	}
}

func TestWriterSeedDamaged(t *testing.T) {
	k, s, path := plugged(t, classic(t))
	seed := newSeed(t, s)
	before := writers(t, s, seed)
	for i := range seed {
		bad := bytes.Clone(seed)
		bad[i] ^= 1
		keys, err := s.WriterKeys(context.Background(), bad)
		if err == nil && !keys[len(keys)-1].Public().Equal(before["kms"]) { // as after a change of an unused annotation
			t.Errorf("with byte %d changed there is another key", i)
		}
	}
	for n := 1; n < len(seed); n++ {
		if keys, err := s.WriterKeys(context.Background(), seed[:n]); err == nil && !keys[1].Public().Equal(before["kms"]) {
			t.Errorf("with %d bytes there is another key", n)
		}
	}
	k.Called()
	withUID, err := proto.Marshal(&kmsapi.DecryptRequest{KeyId: "key-1", Ciphertext: []byte("c"), Uid: "u"})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"malformed": []byte("garbage"), "is malformed": withUID, "65537 bytes": make([]byte, 64<<10+1), "key_id is empty": {0x1a, 0},
	} {
		wantOnlyAge(t, s, bad, damaged, "seed", name)
	}
	if got := k.Called(); got != "" {
		t.Errorf("the plugin was called: %s", got)
	}

	// Another plugin, or one without the key.
	k.Lock()
	delete(k.Keys, "key-1")
	k.Unlock()
	k.Rotate(t, "key-2")
	wantOnlyAge(t, open(t, seal.Config{KMSSocket: path}), seed, noIdentity, path, `"key-1"`)
}

// What the plugin encrypted for another purpose is no seed, and a seed no file key.
func TestWriterSeedIsNothingElse(t *testing.T) {
	k, s, path := plugged(t, classic(t))
	for _, tt := range []struct {
		name  string
		plain []byte
		want  string
	}{
		{"a file key of age", make([]byte, 16), "returned 16 bytes"},
		{"a key of kube-apiserver", make([]byte, 32), "returned 32 bytes"},
		{"something of the size of a seed", make([]byte, 63), "it is not a seed"},
	} {
		resp, err := k.Encrypt(context.Background(), "u", tt.plain)
		if err != nil {
			t.Fatal(err)
		}
		seed, err := proto.Marshal(&kmsapi.DecryptRequest{KeyId: resp.KeyID, Ciphertext: resp.Ciphertext, Annotations: resp.Annotations})
		if err != nil {
			t.Fatal(err)
		}
		wantOnlyAge(t, s, seed, damaged, path, tt.want)
	}

	req := &kmsapi.DecryptRequest{}
	if err := proto.Unmarshal(newSeed(t, s), req); err != nil {
		t.Fatal(err)
	}
	header, err := proto.Marshal(&kmsapi.DecryptRequest{KeyId: req.KeyId, Annotations: req.Annotations})
	if err != nil {
		t.Fatal(err)
	}
	k.Called()
	_, err = s.Unseal(context.Background(), forged{{Args: []string{encode(header)}, Body: req.Ciphertext}}.file(t))
	wantErr(t, err, damaged, path, "returned 63 bytes instead of the 16")
	if got := k.Called(); got != "Decrypt 1" {
		t.Errorf("it called %s", got)
	}
}

func TestNewWriterSeedFails(t *testing.T) {
	k, s, path := plugged(t)
	k.Decrypted = func([]byte) ([]byte, error) { return make([]byte, 63), nil }
	_, err := s.NewWriterSeed(context.Background())
	wantErr(t, err, damaged, path, "does not return the bytes that it encrypted")
	k.Decrypted = nil
	k.Encrypted = func(r *service.EncryptResponse) (*service.EncryptResponse, error) {
		for i := range int64(6500) { // annotations of few bytes, whose encoding is larger
			r.Annotations[strconv.FormatInt(i, 36)+".a"] = nil
		}
		return r, nil
	}
	_, err = s.NewWriterSeed(context.Background())
	wantErr(t, err, damaged, path, "more than 65536")
}

func TestWritersAreNotPrinted(t *testing.T) {
	_, s, _ := plugged(t, classic(t))
	keys, err := s.WriterKeys(context.Background(), newSeed(t, s))
	if err != nil {
		t.Fatal(err)
	}
	type wrapper struct {
		s *seal.Sealer
		v seal.Sealer
	}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{keys, s, *s, wrapper{s, *s}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, k := range keys {
		if strings.Contains(out.String(), hex.EncodeToString(k.Public())) {
			t.Errorf("%v is in the output", k)
		}
	}
	if n := out.Len(); n > 40_000 {
		t.Errorf("an output of %d bytes", n)
	}
}

// The seed comes from a store, which an attacker may be able to write. Only what
// NewWriterSeed returned opens.
func FuzzWriterKeys(f *testing.F) {
	path := kmstest.Socket(f)
	f.Cleanup(kmstest.New(f).Start(f, path))
	file := writeFile(f, fuzzClassic, 0o600)
	s := open(f, seal.Config{IdentityFiles: []string{file}, KMSSocket: path})
	f.Add(fuzzSeed(f))
	f.Add([]byte("\x12\x01c\x1a\x05key-1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, seed []byte) {
		start := time.Now()
		keys, err := s.WriterKeys(context.Background(), seed)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		if err != nil {
			if n := len(hint.Text(err, hint.Field)); n > 4000 || len(keys) != 1 {
				t.Errorf("an error of %d bytes, and %v", n, keys)
			}
			return
		}
		var got []string
		for _, k := range keys {
			got = append(got, hex.EncodeToString(k.Public()))
		}
		if want := []string{classicWriter, seedWriter}; !slices.Equal(got, want[:min(1+len(seed), 2)]) {
			t.Errorf("the keys are %q", got)
		}
	})
}
