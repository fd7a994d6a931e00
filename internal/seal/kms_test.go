package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/kms/pkg/service"

	"oidc-provider/internal/seal"
	"oidc-provider/internal/seal/kmstest"
)

func TestKMS(t *testing.T) {
	k, s, path := plugged(t)
	plain := pkcs8(t)
	old := mustSeal(t, s, plain, "kms")
	if got, want := k.Called(), "Decrypt 1, Encrypt 1, Status 1"; got != want {
		t.Errorf("sealing called %s; want %s", got, want)
	}
	wantNoRun(t, old, plain)
	for _, given := range k.Plain {
		if len(given) != 16 || bytes.Contains(plain, given) {
			t.Errorf("the plugin was given %x", given)
		}
		wantNoRun(t, old, given)
	}

	k.Rotate(t, "key-2")
	renewed := mustSeal(t, s, plain, "kms")
	for range 3 {
		wantPlain(t, s, old, plain)
		wantPlain(t, s, renewed, plain)
	}
	wantPlain(t, open(t, seal.Config{KMSSocket: "unix://" + path}), old, plain)
	if len(k.UIDs) != 11 {
		t.Errorf("11 calls had %d different uids", len(k.UIDs))
	}
	if got, want := k.Called(), "Decrypt 8, Encrypt 1, Status 1"; got != want {
		t.Errorf("afterwards it was called %s; want %s", got, want)
	}

	delete(k.Keys, "key-1")
	_, err := s.Unseal(context.Background(), old)
	wantErr(t, err, noIdentity, path, `"key-1"`)
	_, err = new(seal.Sealer).Unseal(context.Background(), renewed)
	wantErr(t, err, noIdentity, "1 × kms", "available: no identity", "kmsSocket")
}

// An age identity that fits needs no plugin, and works if the plugin is unreachable.
func TestKMSAndAge(t *testing.T) {
	for name, generate := range map[string]func(testing.TB) identity{"X25519": classic, "post-quantum": postQuantum} {
		t.Run(name, func(t *testing.T) {
			id, other := generate(t), generate(t)
			k, s, path := plugged(t, other)
			both := open(t, seal.Config{IdentityFiles: []string{other.file, id.file}, KMSSocket: path})
			plain := pkcs8(t)
			sealed := mustSeal(t, s, plain, "kms", id.recipient)
			k.Called()
			wantPlain(t, with(t, id), sealed, plain)
			wantPlain(t, both, sealed, plain)
			if got := k.Called(); got != "" {
				t.Errorf("the plugin was called: %s", got)
			}
			wantPlain(t, s, sealed, plain)

			gone := kmstest.Socket(t)
			wantPlain(t, open(t, seal.Config{IdentityFiles: []string{id.file}, KMSSocket: gone}), sealed, plain)
			s2 := open(t, seal.Config{IdentityFiles: []string{other.file}, KMSSocket: gone})
			_, err := s2.Unseal(context.Background(), sealed)
			wantErr(t, err, unreachable, gone)
			_, err = with(t, other).Unseal(context.Background(), sealed)
			wantErr(t, err, noIdentity, "1 × kms")

			_, err = s.Unseal(context.Background(), mustSeal(t, s, plain, id.recipient))
			wantErr(t, err, noIdentity)
		})
	}
}

func TestKMSComesAndGoes(t *testing.T) {
	k, path := kmstest.New(t), kmstest.Socket(t)
	s := open(t, seal.Config{KMSSocket: path})
	_, err := s.Seal(context.Background(), []string{"kms"}, nil)
	wantErr(t, err, unreachable, path, "no such file")

	stop := k.Start(t, path)
	again := func() []byte {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			sealed, err := s.Seal(context.Background(), []string{"kms"}, []byte("x"))
			if err == nil {
				return sealed
			}
			wantErr(t, err, unreachable, path)
			if time.Now().After(deadline) {
				t.Fatal("the plugin runs again, and the sealer does not connect to it")
			}
		}
	}
	sealed := again()
	stop()
	_, err = s.Unseal(context.Background(), sealed)
	wantErr(t, err, unreachable, path)

	stop = k.Start(t, path)
	defer stop()
	wantPlain(t, s, again(), []byte("x"))
	wantPlain(t, s, sealed, []byte("x"))
	if got := k.Called(); !strings.HasSuffix(got, "Status 1") {
		t.Errorf("the new connection saw %s; want Status 1", got)
	}
}

// A plugin that returns something else fails to seal, and to unseal.
func TestKMSReturnsSomethingElse(t *testing.T) {
	k, s, path := plugged(t)
	sealed := mustSeal(t, s, []byte("x"), "kms")
	for _, tt := range []struct {
		name    string
		returns []byte
		sealing string
		unseals string
	}{
		{"another key", make([]byte, 16), "does not return the bytes that it encrypted", "returned a wrong key"},
		{"nothing", nil, "returned 0 bytes", "returned 0 bytes"},
		{"more", make([]byte, 32), "returned 32 bytes", "returned 32 bytes"},
	} {
		k.Decrypted = func([]byte) ([]byte, error) { return tt.returns, nil }
		_, err := s.Seal(context.Background(), []string{"kms"}, nil)
		wantErr(t, err, damaged, path, tt.sealing)
		_, err = s.Unseal(context.Background(), sealed)
		wantErr(t, err, damaged, path, tt.unseals)
	}
	k.Decrypted = nil
	wantPlain(t, s, sealed, []byte("x"))
}

func TestKMSFails(t *testing.T) {
	k, s, path := plugged(t)
	sealed := mustSeal(t, s, []byte("x"), "kms")
	for _, tt := range []struct {
		err    error
		seals  kind
		unseal kind
	}{
		{errors.New("the cloud is unavailable"), unreachable, unreachable},
		{status.Error(codes.Internal, "oh"), unreachable, unreachable},
		{status.Error(codes.ResourceExhausted, "slow down"), unreachable, unreachable},
		{status.Error(codes.PermissionDenied, "you may not"), damaged, noIdentity},
		{status.Error(codes.InvalidArgument, "not mine"), damaged, noIdentity},
		{errors.New("line\n" + strings.Repeat("x", 5000)), unreachable, unreachable},
	} {
		k.Encrypted = func(*service.EncryptResponse) (*service.EncryptResponse, error) { return nil, tt.err }
		k.Decrypted = func([]byte) ([]byte, error) { return nil, tt.err }
		_, err := s.Seal(context.Background(), []string{"kms"}, nil)
		wantErr(t, err, tt.seals, path, "Encrypt: ")
		_, err = s.Unseal(context.Background(), sealed)
		wantErr(t, err, tt.unseal, path, "Decrypt: ")
		if strings.Contains(err.Error(), "\n") || status.Code(err) != codes.Unknown {
			t.Errorf("the error of the plugin is not quoted, or has its status: %q, %v", err, status.Code(err))
		}
	}
}

func TestKMSStatus(t *testing.T) {
	for _, tt := range []struct {
		version, healthz string
		want             kind
		words            string
	}{
		{"v1beta1", "ok", damaged, `version "v1beta1"`},
		{"", "ok", damaged, `version ""`},
		{"v2", "vault is sealed", unreachable, "vault is sealed"},
		{"v2beta1", "", unreachable, "not healthy"},
	} {
		k, s, path := plugged(t)
		k.Lock()
		k.Answer.Version, k.Answer.Healthz = tt.version, tt.healthz
		k.Unlock()
		for range 2 {
			_, err := s.Seal(context.Background(), []string{"kms"}, nil)
			wantErr(t, err, tt.want, path, tt.words)
		}
		k.Lock()
		k.Answer.Version, k.Answer.Healthz = "v2beta1", "ok"
		k.Unlock()
		wantPlain(t, s, mustSeal(t, s, []byte("x"), "kms"), []byte("x"))
	}

	// A plugin of KMS v1 has another service.
	path := kmstest.Socket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	go server.Serve(l)
	t.Cleanup(server.Stop)
	_, err = open(t, seal.Config{KMSSocket: path}).Seal(context.Background(), []string{"kms"}, nil)
	wantErr(t, err, damaged, path, "does not implement KMS v2")
}

func TestKMSHangs(t *testing.T) {
	k, s, path := plugged(t)
	sealed := mustSeal(t, s, []byte("x"), "kms")
	release := make(chan struct{})
	defer close(release)
	k.Decrypted = func([]byte) ([]byte, error) { <-release; return nil, errors.New("too late") }

	start := time.Now()
	impatient := open(t, seal.Config{KMSSocket: path, KMSTimeout: 100 * time.Millisecond})
	_, err := impatient.Unseal(context.Background(), sealed)
	wantErr(t, err, unreachable, path, "Decrypt: ")

	// The caller's context ends first.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Unseal(ctx, sealed)
	wantErr(t, err, unreachable, path)
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err = s.Unseal(ctx, sealed); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}

	// A stopped process still accepts connections.
	stopped := kmstest.Socket(t)
	l, err := net.Listen("unix", stopped)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	impatient = open(t, seal.Config{KMSSocket: stopped, KMSTimeout: 100 * time.Millisecond})
	_, err = impatient.Unseal(context.Background(), sealed)
	wantErr(t, err, unreachable, stopped)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestKMSDefaultTimeout(t *testing.T) {
	if testing.Short() {
		t.Skip("takes three seconds")
	}
	t.Parallel()
	path := kmstest.Socket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	start := time.Now()
	_, err = open(t, seal.Config{KMSSocket: path}).Seal(context.Background(), []string{"kms"}, nil)
	wantErr(t, err, unreachable, path)
	if took := time.Since(start); took < 2*time.Second || took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestKMSSocket(t *testing.T) {
	for _, bad := range []string{
		"unix://", "unix:///@", "@", "unix://run/kms.sock", "unix:/run/kms.sock", "tcp://127.0.0.1:1", "https://kms",
	} {
		_, err := seal.New(seal.Config{KMSSocket: bad})
		wantErr(t, err, damaged, bad, "kmsSocket")
	}
	abstract := fmt.Sprintf("@oidc-provider-test-%d", os.Getpid())
	l, err := net.Listen("unix", abstract)
	if err != nil {
		t.Skipf("no abstract sockets: %v", err)
	}
	l.Close()
	k := kmstest.New(t)
	defer k.Start(t, abstract)()
	var sealed []byte
	for i, spec := range []string{abstract, "unix://" + abstract, "unix:///" + abstract} {
		s := open(t, seal.Config{KMSSocket: spec})
		if i == 0 {
			sealed = mustSeal(t, s, []byte("x"), "kms")
		}
		wantPlain(t, s, sealed, []byte("x"))
	}
}

// Close can be called again. A closed Sealer has no plugin, and keeps its identities.
func TestClose(t *testing.T) {
	id := classic(t)
	_, s, path := plugged(t, id)
	forKMS, forAge := mustSeal(t, s, []byte("x"), "kms"), mustSeal(t, s, []byte("x"), id.recipient)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := s.Unseal(context.Background(), forKMS)
	wantErr(t, err, unreachable, path)
	wantPlain(t, s, forAge, []byte("x"))
	if err := new(seal.Sealer).Close(); err != nil {
		t.Errorf("closing a Sealer without a plugin: %v", err)
	}
}

func TestKMSConcurrently(t *testing.T) {
	_, s, _ := plugged(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			plain := []byte{byte(i)}
			wantPlain(t, s, mustSeal(t, s, plain, "kms"), plain)
		})
	}
	wg.Wait()
}
