// Package kmstest is a Kubernetes KMS v2 plugin for tests.
package kmstest

import (
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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"
	"k8s.io/kms/pkg/service"
)

// A KMS is a plugin with its keys in memory. Its fields may be changed while it
// serves: under the lock, or between calls.
type KMS struct {
	// Encrypted and Decrypted replace answers if they are not nil.
	Encrypted func(*service.EncryptResponse) (*service.EncryptResponse, error)
	Decrypted func(plain []byte) ([]byte, error)
	Answer    service.StatusResponse // without the KeyID

	sync.Mutex // guards the rest
	Keys       map[string]cipher.AEAD
	UIDs       map[string]bool // of all requests
	Plain      [][]byte        // plaintexts of Encrypt
	newID      string
	calls      map[string]int
}

// New returns a plugin with the key key-1.
func New(t testing.TB) *KMS {
	t.Helper()
	k := &KMS{
		Answer: service.StatusResponse{Version: "v2", Healthz: "ok"},
		Keys:   map[string]cipher.AEAD{},
		calls:  map[string]int{},
		UIDs:   map[string]bool{},
	}
	k.Rotate(t, "key-1")
	return k
}

// Rotate makes id the key that encrypts.
func (k *KMS) Rotate(t testing.TB, id string) {
	t.Helper()
	block, err := aes.NewCipher(fmt.Appendf(nil, "%-32s", id))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	k.Lock()
	defer k.Unlock()
	k.Keys[id], k.newID = aead, id
}

// Status implements [service.Service].
func (k *KMS) Status(context.Context) (*service.StatusResponse, error) {
	k.Lock()
	defer k.Unlock()
	k.calls["Status"]++
	s := k.Answer
	s.KeyID = k.newID
	return &s, nil
}

// Encrypt implements [service.Service].
func (k *KMS) Encrypt(_ context.Context, uid string, data []byte) (*service.EncryptResponse, error) {
	k.Lock()
	k.calls["Encrypt"]++
	k.UIDs[uid] = true
	k.Plain = append(k.Plain, data)
	r := &service.EncryptResponse{
		Ciphertext:  k.Keys[k.newID].Seal(nil, nil, data, []byte(uid)),
		KeyID:       k.newID,
		Annotations: map[string][]byte{"uid.kms.example.com": []byte(uid), "other.kms.example.com": {0, 255}},
	}
	k.Unlock()
	if k.Encrypted != nil {
		return k.Encrypted(r)
	}
	return r, nil
}

// Decrypt implements [service.Service].
func (k *KMS) Decrypt(_ context.Context, uid string, req *service.DecryptRequest) ([]byte, error) {
	k.Lock()
	k.calls["Decrypt"]++
	k.UIDs[uid] = true
	aead := k.Keys[req.KeyID]
	k.Unlock()
	if aead == nil {
		return nil, status.Errorf(codes.NotFound, "no key %s", req.KeyID)
	}
	plain, err := aead.Open(nil, nil, req.Ciphertext, req.Annotations["uid.kms.example.com"])
	if err == nil && k.Decrypted != nil {
		return k.Decrypted(plain)
	}
	return plain, err
}

// Called returns how often each method was called since the last call of Called.
func (k *KMS) Called() string {
	k.Lock()
	defer k.Unlock()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(k.calls)) {
		list = append(list, fmt.Sprint(name, " ", k.calls[name]))
	}
	clear(k.calls)
	return strings.Join(list, ", ")
}

// Socket returns a path for a socket: those of t.TempDir can be too long.
func Socket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "kms.sock")
}

// Start serves k at path, until the function that it returns is called.
func (k *KMS) Start(t testing.TB, path string) (stop func()) {
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
	k.Called()
	return sync.OnceFunc(func() {
		server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
