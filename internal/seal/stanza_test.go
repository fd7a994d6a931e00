package seal_test

import (
	"bytes"
	"context"
	"testing"

	"google.golang.org/protobuf/proto"
	kmsapi "k8s.io/kms/apis/v2"
	"k8s.io/kms/pkg/service"
)

func TestKMSLies(t *testing.T) {
	big := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	for name, change := range map[string]func(*service.EncryptResponse){
		"key_id is empty":              func(r *service.EncryptResponse) { r.KeyID = "" },
		"key_id has 1025 bytes":        func(r *service.EncryptResponse) { r.KeyID = string(big(1025)) },
		"ciphertext is empty":          func(r *service.EncryptResponse) { r.Ciphertext = nil },
		"ciphertext has 1025 bytes":    func(r *service.EncryptResponse) { r.Ciphertext = big(1025) },
		"ciphertext has 1048576 bytes": func(r *service.EncryptResponse) { r.Ciphertext = big(1 << 20) },
		"not a fully qualified": func(r *service.EncryptResponse) {
			r.Annotations = map[string][]byte{"uid": nil}
		},
		"annotations have 32769 bytes": func(r *service.EncryptResponse) {
			r.Annotations = map[string][]byte{"a.b": big(32<<10 - 2)}
		},
		"annotation key \"a.b\\nc\" is not": func(r *service.EncryptResponse) {
			r.Annotations = map[string][]byte{"a.b\nc": nil}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, s, path := plugged(t)
			k.Encrypted = func(r *service.EncryptResponse) (*service.EncryptResponse, error) {
				change(r)
				return r, nil
			}
			_, err := s.Seal(context.Background(), []string{"kms"}, nil)
			wantErr(t, err, damaged, path, name)
		})
	}
	// An answer at every limit is valid.
	k, s, _ := plugged(t)
	k.Encrypted = func(r *service.EncryptResponse) (*service.EncryptResponse, error) {
		uid := r.Annotations["uid.kms.example.com"]
		rest := 32<<10 - len("uid.kms.example.comb.example.com") - len(uid)
		r.Annotations = map[string][]byte{"uid.kms.example.com": uid, "b.example.com": big(rest)}
		return r, nil
	}
	wantPlain(t, s, mustSeal(t, s, make([]byte, 9000), "kms"), make([]byte, 9000))
}

// An attacker may write the store: no header makes us call the plugin more than
// once, or for something that no plugin can have sealed.
func TestKMSForgedStanza(t *testing.T) {
	k, s, path := plugged(t)
	header := func(change func(*kmsapi.DecryptRequest)) string {
		req := &kmsapi.DecryptRequest{KeyId: "key-1"}
		change(req)
		data, err := proto.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		return encode(data)
	}
	good := header(func(*kmsapi.DecryptRequest) {})
	noKeyID := header(func(r *kmsapi.DecryptRequest) { r.KeyId = "" })
	withCiphertext := header(func(r *kmsapi.DecryptRequest) { r.Ciphertext = []byte("c") })
	withUID := header(func(r *kmsapi.DecryptRequest) { r.Uid = "u" })
	strange := header(func(r *kmsapi.DecryptRequest) { r.Annotations = map[string][]byte{"x": nil} })
	for name, stanzas := range map[string]forged{
		"no argument":            {{Body: []byte("c")}},
		"two arguments":          {{Args: []string{good, good}, Body: []byte("c")}},
		"no base64":              {{Args: []string{"!!!"}, Body: []byte("c")}},
		"no protobuf":            {{Args: []string{encode([]byte{255, 255})}, Body: []byte("c")}},
		"no key_id":              {{Args: []string{noKeyID + "GgA"}, Body: []byte("c")}},
		"ciphertext in it":       {{Args: []string{withCiphertext}, Body: []byte("c")}},
		"uid in it":              {{Args: []string{withUID}, Body: []byte("c")}},
		"no ciphertext":          {{Args: []string{good}}},
		"large ciphertext":       {{Args: []string{good}, Body: make([]byte, 1025)}},
		"strange annotation":     {{Args: []string{strange}, Body: []byte("c")}},
		"two, each of them good": {{Args: []string{good}, Body: []byte("c")}, {Args: []string{good}, Body: []byte("c")}},
	} {
		_, err := s.Unseal(context.Background(), stanzas.file(t))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantErr(t, err, damaged)
		if got := k.Called(); got != "" {
			t.Errorf("%s: the plugin was called: %s", name, got)
		}
	}
	wantFragile(t, s, mustSeal(t, s, []byte("x"), "kms"))
	_, err := s.Unseal(context.Background(), forged{{Args: []string{good}, Body: []byte("c")}}.file(t))
	wantErr(t, err, unreachable, path) // the plugin returns Unknown
}
