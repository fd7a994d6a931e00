package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/seal"
	"oidc-provider/internal/seal/kmstest"
)

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// The processes of a fuzz run share inputs, so these identities, which are used
// only here, and the keys of the test's plugin are constant.
const (
	fuzzClassic     = "AGE-SECRET-KEY-15FW6KV4YP0F96UW8SJXEVSTZXEK3JR54RHR6WZ5MLQZDXWJ75N9SZYPJJF"
	fuzzPostQuantum = "AGE-SECRET-KEY-PQ-1V4XQGYGMAD993LJC99UWPRLRM60K88WDJSZ9HCEWSUW0Z3MZQ3LS7842KE"
)

// The bytes come from a store, which an attacker may be able to write. Only what
// was sealed opens.
func FuzzUnseal(f *testing.F) {
	path := kmstest.Socket(f)
	f.Cleanup(kmstest.New(f).Start(f, path))
	file := writeFile(f, fuzzClassic+"\n"+fuzzPostQuantum, 0o600)
	s := open(f, seal.Config{IdentityFiles: []string{file}, KMSSocket: path})
	ids, err := age.ParseIdentities(strings.NewReader(fuzzClassic + "\n" + fuzzPostQuantum))
	if err != nil {
		f.Fatal(err)
	}
	classic := ids[0].(*age.X25519Identity).Recipient().String()
	postQuantum := ids[1].(*age.HybridIdentity).Recipient().String()
	for _, to := range [][]string{{classic}, {postQuantum}, {"kms"}, {classic, "kms"}, {postQuantum, "kms"}} {
		sealed := mustSeal(f, s, []byte("plain"), to...)
		f.Add(sealed)
		f.Add(sealed[:len(sealed)/2])
	}
	f.Add(forged{{Args: []string{encode([]byte("\x1a\x05key-1"))}, Body: []byte("c")}}.file(f))
	f.Add([]byte("age-encryption.org/v1\n" + strings.Repeat("-> X25519\n\n", 1000)))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		start := time.Now()
		plain, err := s.Unseal(context.Background(), sealed)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		if err == nil && string(plain) != "plain" {
			t.Errorf("it opens as %q", plain)
		}
		if err != nil {
			text := hint.Text(err, hint.Field)
			wantNoSecret(t, text, identity{secret: fuzzClassic}, identity{secret: fuzzPostQuantum})
			if len(text) > 4000 || plain != nil {
				t.Errorf("an error of %d bytes, and %d bytes of plaintext", len(text), len(plain))
			}
		}
	})
}

// The largest number of stanzas that fits into a file, none of which opens.
func TestUnsealIsBounded(t *testing.T) {
	a, b, pq := classic(t), classic(t), postQuantum(t)
	strange, err := age.ParseX25519Recipient(b.recipient)
	if err != nil {
		t.Fatal(err)
	}
	var to []age.Recipient
	for range 450 {
		to = append(to, strange)
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to...)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := file.Len(); n < 40<<10 || n > 64<<10 {
		t.Fatalf("the test has a file of %d bytes", n)
	}
	s := with(t, a, pq)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	_, err = s.Unseal(context.Background(), file.Bytes())
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	wantErr(t, err, noIdentity, fmt.Sprintf("%d × age1…", len(to)))
	if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 || took > 5*time.Second {
		t.Errorf("it took %v and %d bytes", took, n)
	}
}
