package rotation

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestWriterKeySigns(t *testing.T) {
	seed := bytes.Repeat([]byte{0xa7}, ed25519.SeedSize)
	k := NewWriterKey("age1x", seed)
	if !ed25519.Verify(k.Public(), []byte("ring"), k.Sign([]byte("ring"))) {
		t.Error("the signature is invalid")
	}
	want := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	clear(seed)
	if !k.Public().Equal(want) {
		t.Error("the key changes with the seed of the caller")
	}
}

func TestWriterKeyIsNotPrinted(t *testing.T) {
	seed := bytes.Repeat([]byte{0xa7}, ed25519.SeedSize)
	k := NewWriterKey("age1x", seed)
	values := []any{k, &k, []WriterKey{k}, map[string]WriterKey{"k": k},
		struct{ K WriterKey }{k}, struct{ k WriterKey }{k}, struct{ k []WriterKey }{[]WriterKey{k}}}
	var out bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(data)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	}
	part := seed[:4] // of any encoding
	for _, secret := range []string{
		string(part), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)),
		"167 167", "247 247", "10100111 10100111", "0xa7, 0xa7", "U+00A7 U+00A7", "§§", base64.RawURLEncoding.EncodeToString(seed[:3]),
	} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in the output", secret)
		}
	}
	if got, want := fmt.Sprintf("%x", k), "[writer key of age1x]"; got != want {
		t.Errorf("it prints as %q, want %q", got, want)
	}
}
