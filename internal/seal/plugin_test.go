package seal_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"
	"k8s.io/kms/pkg/service"

	"oidc-provider/internal/seal"
)

// kms is a plugin with its keys in memory. encrypt and decrypt replace its answers
// if they are not nil.
type kms struct {
	encrypt func(*service.EncryptResponse) (*service.EncryptResponse, error)
	decrypt func(plain []byte) ([]byte, error)
	status  service.StatusResponse

	mu    sync.Mutex // guards the rest
	keys  map[string]cipher.AEAD
	newID string
	calls map[string]int
	uids  map[string]bool
	plain [][]byte // plaintexts of Encrypt
}

func newKMS(t testing.TB) *kms {
	k := &kms{
		status: service.StatusResponse{Version: "v2", Healthz: "ok"},
		keys:   map[string]cipher.AEAD{},
		calls:  map[string]int{},
		uids:   map[string]bool{},
	}
	k.rotate(t, "key-1")
	return k
}

func (k *kms) rotate(t testing.TB, id string) {
	t.Helper()
	block, err := aes.NewCipher(fmt.Appendf(nil, "%-32s", id))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[id], k.newID = aead, id
}

func (k *kms) Status(context.Context) (*service.StatusResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls["Status"]++
	s := k.status
	s.KeyID = k.newID
	return &s, nil
}

func (k *kms) Encrypt(_ context.Context, uid string, data []byte) (*service.EncryptResponse, error) {
	k.mu.Lock()
	k.calls["Encrypt"]++
	k.uids[uid] = true
	k.plain = append(k.plain, data)
	r := &service.EncryptResponse{
		Ciphertext:  k.keys[k.newID].Seal(nil, nil, data, []byte(uid)),
		KeyID:       k.newID,
		Annotations: map[string][]byte{"uid.kms.example.com": []byte(uid), "other.kms.example.com": {0, 255}},
	}
	k.mu.Unlock()
	if k.encrypt != nil {
		return k.encrypt(r)
	}
	return r, nil
}

func (k *kms) Decrypt(_ context.Context, uid string, req *service.DecryptRequest) ([]byte, error) {
	k.mu.Lock()
	k.calls["Decrypt"]++
	k.uids[uid] = true
	aead := k.keys[req.KeyID]
	k.mu.Unlock()
	if aead == nil {
		return nil, status.Errorf(codes.NotFound, "no key %s", req.KeyID)
	}
	plain, err := aead.Open(nil, nil, req.Ciphertext, req.Annotations["uid.kms.example.com"])
	if err == nil && k.decrypt != nil {
		return k.decrypt(plain)
	}
	return plain, err
}

// called returns how often each method was called since the last call of called.
func (k *kms) called() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(k.calls)) {
		list = append(list, fmt.Sprint(name, " ", k.calls[name]))
	}
	clear(k.calls)
	return strings.Join(list, ", ")
}

// socket returns a path for a socket: those of t.TempDir can be too long.
func socket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "kms.sock")
}

// start serves k at path, until the function that it returns is called.
func (k *kms) start(t testing.TB, path string) (stop func()) {
	t.Helper()
	server := service.NewGRPCService(path, 5*time.Second, k)
	done := make(chan error, 1)
	go func() { done <- server.ListenAndServe() }()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the plugin does not listen")
		}
		time.Sleep(time.Millisecond)
	}
	// The server can be closed only after it has started to serve.
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := kmsapi.NewKeyManagementServiceClient(conn)
	if _, err := client.Status(context.Background(), &kmsapi.StatusRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	k.called()
	return sync.OnceFunc(func() {
		server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// plugged returns a running plugin, and a sealer that is connected to it.
func plugged(t testing.TB, ids ...identity) (*kms, *seal.Sealer, string) {
	t.Helper()
	k, path := newKMS(t), socket(t)
	t.Cleanup(k.start(t, path))
	cfg := seal.Config{KMSSocket: path}
	for _, id := range ids {
		cfg.IdentityFiles = append(cfg.IdentityFiles, id.file)
	}
	return k, open(t, cfg), path
}

// forged is a recipient that writes forged stanzas of a KMS plugin.
type forged []age.Stanza

func (f forged) Wrap([]byte) ([]*age.Stanza, error) {
	var list []*age.Stanza
	for _, s := range f {
		s.Type = "oidc-provider/kms-v2"
		list = append(list, &s)
	}
	return list, nil
}

func (f forged) file(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, f)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
