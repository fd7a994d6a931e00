package seal_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/seal"
	"oidc-provider/rotation"
)

// pkcs8 returns a private key in the encoding of a ring.
func pkcs8(t testing.TB) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

type identity struct{ secret, recipient, file string }

func writeFile(t testing.TB, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // despite the umask
		t.Fatal(err)
	}
	return path
}

func classic(t testing.TB) identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, "# public key: "+id.Recipient().String()+"\n"+id.String()+"\n", 0o600)
	return identity{id.String(), id.Recipient().String(), file}
}

func postQuantum(t testing.TB) identity {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return identity{id.String(), id.Recipient().String(), writeFile(t, "\n"+id.String(), 0o400)}
}

func open(t testing.TB, cfg seal.Config) *seal.Sealer {
	t.Helper()
	s, err := seal.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func with(t testing.TB, ids ...identity) *seal.Sealer {
	t.Helper()
	var cfg seal.Config
	for _, id := range ids {
		cfg.IdentityFiles = append(cfg.IdentityFiles, id.file)
	}
	return open(t, cfg)
}

func mustSeal(t testing.TB, s *seal.Sealer, plain []byte, recipients ...string) []byte {
	t.Helper()
	sealed, err := s.Seal(context.Background(), recipients, plain)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func wantPlain(t testing.TB, s *seal.Sealer, sealed, want []byte) {
	t.Helper()
	if got, err := s.Unseal(context.Background(), sealed); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v opens it as %x, %v; want %x", s, got, err, want)
	}
}

// kind says which error an error of Unseal wraps.
type kind int

const (
	damaged kind = iota
	noIdentity
	unreachable
)

func wantErr(t testing.TB, err error, want kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if got := errors.Is(err, seal.ErrNoIdentity); got != (want == noIdentity) {
		t.Errorf("ErrNoIdentity is %v in %v", got, err)
	}
	if got := errors.Is(err, rotation.ErrUnavailable); got != (want == unreachable) {
		t.Errorf("ErrUnavailable is %v in %v", got, err)
	}
	text := hint.Text(err, hint.Field)
	for _, word := range append(words, "hint: ") {
		if !strings.Contains(text, word) {
			t.Errorf("no %q in %q", word, text)
		}
	}
	if n := len(text); n > 1000 {
		t.Errorf("an error of %d bytes", n)
	}
}

func TestEveryRecipientOpens(t *testing.T) {
	for name, generate := range map[string]func(testing.TB) identity{"X25519": classic, "post-quantum": postQuantum} {
		t.Run(name, func(t *testing.T) {
			a, b, c := generate(t), generate(t), generate(t)
			for _, size := range []int{0, 1, 48, 2400, 40000} {
				plain := bytes.Repeat([]byte{7}, size)
				var none seal.Sealer
				sealed := mustSeal(t, &none, plain, a.recipient, b.recipient)
				wantPlain(t, with(t, a), sealed, plain)
				wantPlain(t, with(t, b), sealed, plain)
				wantPlain(t, with(t, c, b), sealed, plain)
				for _, s := range []*seal.Sealer{with(t, c), &none} {
					got, err := s.Unseal(context.Background(), sealed)
					wantErr(t, err, noIdentity, "2 × age1", s.Describe(), "ageIdentities", "kmsSocket")
					if got != nil {
						t.Errorf("it opens as %x without an identity", got)
					}
				}
			}
		})
	}
}

// Sealing again for other recipients rotates the sealing key itself.
func TestRecipientsRotate(t *testing.T) {
	before, after := classic(t), postQuantum(t)
	plain := pkcs8(t)
	both := with(t, before, after)
	old := mustSeal(t, both, plain, before.recipient)
	opened, err := both.Unseal(context.Background(), old)
	if err != nil {
		t.Fatal(err)
	}
	renewed := mustSeal(t, both, opened, after.recipient)
	wantPlain(t, with(t, after), renewed, plain)
	_, err = with(t, before).Unseal(context.Background(), renewed)
	wantErr(t, err, noIdentity, before.recipient, before.file, "1 × age1pq1…")
}

func TestSealedShowsNothing(t *testing.T) {
	id := classic(t)
	s := with(t, id)
	plain := pkcs8(t)
	first, second := mustSeal(t, s, plain, id.recipient), mustSeal(t, s, plain, id.recipient)
	if bytes.Equal(first, second) {
		t.Error("the same plaintext gives the same bytes")
	}
	if a, b := first[len(first)-len(plain):], second[len(second)-len(plain):]; bytes.Equal(a[:8], b[:8]) {
		t.Error("the same plaintext gives the same ciphertext")
	}
	wantNoRun(t, first, plain)
}

func wantNoRun(t testing.TB, sealed, plain []byte) {
	t.Helper()
	for i := 0; i+8 <= len(plain); i++ {
		if bytes.Contains(sealed, plain[i:i+8]) {
			t.Fatalf("sealed bytes contain bytes %d to %d of the plaintext", i, i+8)
		}
	}
}

func TestUnsealDamaged(t *testing.T) {
	id := classic(t)
	s := with(t, id)
	plain := pkcs8(t)
	sealed := mustSeal(t, s, plain, id.recipient)
	for n := range sealed {
		_, err := s.Unseal(context.Background(), sealed[:n])
		wantErr(t, err, damaged, "not an age file, or it is damaged")
	}
	wantFragile(t, s, sealed)
	_, err := s.Unseal(context.Background(), append(sealed, 0))
	wantErr(t, err, damaged)
	_, err = s.Unseal(context.Background(), make([]byte, 64<<10+1))
	wantErr(t, err, damaged, "65537")

	// Data that was never sealed is not quoted either.
	for _, data := range [][]byte{plain, []byte(id.secret + "\n"), []byte("age-encryption.org/v1\n" + id.secret + "\n")} {
		_, err := s.Unseal(context.Background(), data)
		wantErr(t, err, damaged)
		wantNoRun(t, []byte(err.Error()), data[len(data)-20:])
	}
	_, err = s.Seal(context.Background(), []string{id.recipient}, make([]byte, 64<<10))
	wantErr(t, err, damaged, "fewer recipients")
}

// wantFragile changes each byte in turn: nothing but the original opens.
func wantFragile(t testing.TB, s *seal.Sealer, sealed []byte) {
	t.Helper()
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if got, err := s.Unseal(context.Background(), bad); err == nil || got != nil {
			t.Errorf("with byte %d changed it opens as %x, %v", i, got, err)
		}
	}
}

func TestUnsealCancelled(t *testing.T) {
	id := classic(t)
	s := with(t, id)
	sealed := mustSeal(t, s, nil, id.recipient)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Unseal(ctx, sealed); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCheckRecipients(t *testing.T) {
	a, b, pq := classic(t), classic(t), postQuantum(t)
	for _, good := range [][]string{
		{a.recipient}, {"kms"}, {a.recipient, "kms", b.recipient}, {pq.recipient}, {"kms", pq.recipient},
	} {
		if err := seal.CheckRecipients(good); err != nil {
			t.Errorf("%.60q: %v", good, err)
		}
	}
	zero := "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z" // a point of low order
	for _, tt := range []struct {
		name string
		bad  []string
		want string
	}{
		{"none", nil, "at least one"},
		{"empty", []string{""}, "neither"},
		{"twice", []string{a.recipient, b.recipient, a.recipient}, "recipient 3"},
		{"kms twice", []string{"kms", "kms"}, "twice"},
		{"upper case", []string{"KMS"}, "neither"},
		{"typo", []string{a.recipient[:len(a.recipient)-1] + "b"}, a.recipient[:12]},
		{"short", []string{"age1"}, "neither"},
		{"two in one", []string{a.recipient + "\n" + b.recipient}, "neither"},
		{"with a line end", []string{a.recipient + "\n"}, "neither"},
		{"a comment", []string{"# " + a.recipient}, "neither"},
		{"secret", []string{a.recipient, a.secret}, "recipient 2 is a private key"},
		{"post-quantum secret", []string{pq.secret}, "private key"},
		{"secret in lower case", []string{strings.ToLower(a.secret)}, "private key"},
		{"secret behind", []string{a.recipient + " " + a.secret}, "private key"},
		{"secret on the next line", []string{a.recipient + "\n" + a.secret}, "private key"},
		{"secret without its prefix", []string{strings.TrimPrefix(a.secret, "AGE-SECRET-KEY-")}, "neither"},
		{"ssh", []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN"}, "SSH"},
		{"plugin", []string{"age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt"},
			"plugins are not supported"},
		{"low order", []string{zero}, "low order"},
		{"mixed", []string{a.recipient, pq.recipient}, "post-quantum"},
	} {
		err := seal.CheckRecipients(tt.bad)
		_, err2 := new(seal.Sealer).Seal(context.Background(), tt.bad, nil)
		for _, err := range []error{err, err2} {
			if err == nil {
				t.Errorf("%s: no error", tt.name)
				continue
			}
			text := hint.Text(err, hint.Field)
			if !strings.Contains(text, tt.want) || hint.Of(err) == "" {
				t.Errorf("%s: got %q, want %q and a hint", tt.name, text, tt.want)
			}
			wantNoSecret(t, text, a, pq)
		}
	}
	_, err := new(seal.Sealer).Seal(context.Background(), []string{a.recipient, "kms"}, nil)
	wantErr(t, err, damaged, "kmsSocket")
}

// wantNoSecret looks for secrets in any case, and for parts of them.
func wantNoSecret(t testing.TB, text string, ids ...identity) {
	t.Helper()
	for _, id := range ids {
		_, key, _ := strings.Cut(id.secret, "-1") // as in AGE-SECRET-KEY-PQ-1
		for i := 0; i+12 <= len(key); i++ {
			part := key[i : i+12]
			if strings.Contains(strings.ToUpper(text), part) || strings.Contains(text, hex.EncodeToString([]byte(part))) {
				t.Errorf("%q contains a secret", text)
				return
			}
		}
	}
}

func TestNothingSecretIsPrinted(t *testing.T) {
	a, pq := classic(t), postQuantum(t)
	s := open(t, seal.Config{IdentityFiles: []string{a.file, pq.file}, KMSSocket: "/run/kms.sock"})
	for _, want := range []string{a.recipient + " (" + a.file + ")", pq.recipient[:60], pq.file, "/run/kms.sock"} {
		if !strings.Contains(s.Describe(), want) {
			t.Errorf("no %q in %q", want, s.Describe())
		}
	}
	type wrapper struct {
		S *seal.Sealer
		s *seal.Sealer
		v seal.Sealer
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{s, *s, wrapper{s, s, *s}, &wrapper{s, s, *s}, []*seal.Sealer{s}} {
			text := fmt.Sprintf(verb, v)
			wantNoSecret(t, text, a, pq)
			if strings.Contains(text, "secretKey") || len(text) > 6000 {
				t.Errorf("%s of %T prints %q", verb, v, text)
			}
		}
	}
}
