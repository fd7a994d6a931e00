package e2e

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/kms/pkg/service"
)

// TestSealedWithKMS seals and signs a ring with a KMS v2 plugin, as a cluster runs it
// for its Secrets, and takes the plugin away for a while. A server that starts
// meanwhile publishes if it remembers who may sign the ring, or is told.
func TestSealedWithKMS(t *testing.T) {
	lab := newLab(t)
	p := &controlPlane{lab: lab, members: lab.startMembers(1)}
	plugin := newKMSPlugin(t, strings.TrimSuffix(lab.socketPath(), "signer.sock")+"kms.sock")
	plugin.start()

	r := &replica{provider: lab.newProvider(calm)}
	r.issuer, r.store = sharedIssuer, "etcd://"+p.members[0].client
	r.identity = []string{"--kms-socket", plugin.socket}
	r.extra = []string{"--witness", "none", "--rollback-state", lab.path("memory")}
	p.replicas = []*replica{r}
	forgets := p.another("forgets", "--witness", "none")
	r.change(append([]string{"init", "--issuer", r.issuer, "--recipient", "kms"}, calm.flags()...)...)
	r.start()
	pinned := p.another("pinned", "--witness", "none", "--ring-signer", r.soleWriter())
	kv := etcdClient(t, p.members...)
	key := "/oidc-provider/ring"
	checkSealedByPlugin(t, mustGet(t, kv, key).Value)
	rotate := []string{"rotate", "--force"}
	r.change(rotate...)
	rotated := r.published(t)
	if err := r.sign(t.Context()); err != nil {
		t.Error(err)
	}

	plugin.stop()
	_, err := r.run(t.Context(), "", r.changing(rotate...)...)
	if err == nil || !strings.Contains(err.Error(), plugin.socket) || !strings.Contains(err.Error(), "(hint: ") {
		t.Errorf("rotating without the plugin: %v, want it named and a hint", err)
	}
	if err := r.sign(t.Context()); err != nil {
		t.Errorf("a server that has opened the keys does not sign without the plugin: %v", err)
	}
	r.process.stop(10 * time.Second)
	r.launch()
	pinned.launch()
	forgets.launch()
	p.checkCannotOpen(t, r, http.StatusOK, plugin)
	p.checkCannotOpen(t, pinned, http.StatusOK, plugin)
	p.checkCannotOpen(t, forgets, http.StatusServiceUnavailable, plugin)
	if got := r.published(t); got != rotated {
		t.Errorf("without the plugin the keys have changed:\n%s\n%s", rotated, got)
	}

	plugin.start()
	back := time.Now()
	for _, r := range []*replica{r, pinned, forgets} {
		eventually(t, r.name+" signs with the plugin back", 2*agreement, func() error {
			return errors.Join(r.ready(), r.sign(t.Context()))
		})
	}
	t.Logf("signs %s after the plugin was back", time.Since(back).Round(time.Millisecond))
	r.change(rotate...)
	eventually(t, "it shows the next key", agreement, func() error {
		if r.published(t) == rotated {
			return errors.New("it shows the same keys as before")
		}
		return nil
	})
	checkSealedByPlugin(t, mustGet(t, kv, key).Value)
}

// soleWriter returns the ID of the only writer of the ring.
func (r *replica) soleWriter() string {
	t := r.lab.t
	t.Helper()
	var ring struct {
		Writers []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(r.change("writers", "list", "-o", "json")), &ring); err != nil || len(ring.Writers) != 1 {
		t.Fatalf("writers %v: %v", ring.Writers, err)
	}
	return ring.Writers[0].ID
}

// checkCannotOpen follows a server that was started without what opens its keys:
// it says why it does not sign, and publishes if it can tell who signed the ring.
func (p *controlPlane) checkCannotOpen(t *testing.T, r *replica, publishes int, plugin *kmsPlugin) {
	t.Helper()
	client := p.lab.ca.client()
	eventually(t, r.name+" says why it is not ready", 10*time.Second, func() error {
		status, _, err := get(t.Context(), client, r.address()+"/openid/v1/jwks")
		if err != nil || status != publishes {
			return fmt.Errorf("JWKS: %d %v, want %d", status, err, publishes)
		}
		status, report, err := get(t.Context(), client, "http://"+r.admin+"/readyz?verbose")
		if err == nil && (status != http.StatusServiceUnavailable || !strings.Contains(report, plugin.socket)) {
			err = fmt.Errorf("readyz: %d\n%s", status, report)
		}
		return err
	})
	if publishes != http.StatusOK {
		return // nor is there anything to ask for a token yet
	}
	// The requester of a token learns no details.
	err := r.sign(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no key can sign now") || strings.Contains(err.Error(), plugin.socket) {
		t.Errorf("signing without the plugin: %v, want a refusal that does not name the plugin", err)
	}
}

func checkSealedByPlugin(t *testing.T, document []byte) {
	t.Helper()
	ring := checkSealedDocument(t, document).Ring
	if fmt.Sprint(ring.Recipients) != "[kms]" {
		t.Errorf("recipients %q, want the plugin alone", ring.Recipients)
	}
	for _, k := range ring.Keys {
		if len(k.Sealed) > 0 && !bytes.Contains(k.Sealed, []byte("kms")) {
			t.Errorf("key %s is not sealed by the plugin: %.60q", k.KeyID, k.Sealed)
		}
	}
}

// A kmsPlugin is a KMS v2 plugin with its key in memory.
type kmsPlugin struct {
	t      *testing.T
	socket string
	aead   cipher.AEAD
	server *service.GRPCService
	done   chan error
}

func newKMSPlugin(t *testing.T, socket string) *kmsPlugin {
	t.Helper()
	block, err := aes.NewCipher([]byte("a key encryption key of the test"))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	k := &kmsPlugin{t: t, socket: socket, aead: aead}
	t.Cleanup(func() {
		if k.server != nil {
			k.stop()
		}
	})
	return k
}

func (k *kmsPlugin) start() {
	k.t.Helper()
	server, done := service.NewGRPCService(k.socket, time.Second, k), make(chan error, 1)
	k.server, k.done = server, done
	go func() { done <- server.ListenAndServe() }()
	eventually(k.t, "the plugin listens", 5*time.Second, func() error { return dialUnix(k.socket) })
}

// stop also takes the socket away.
func (k *kmsPlugin) stop() {
	k.t.Helper()
	k.server.Close()
	k.server = nil
	if err := <-k.done; err != nil {
		k.t.Error(err)
	}
}

const keyEncryptionKey = "key-1"

func (k *kmsPlugin) Status(context.Context) (*service.StatusResponse, error) {
	return &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: keyEncryptionKey}, nil
}

func (k *kmsPlugin) Encrypt(_ context.Context, _ string, plain []byte) (*service.EncryptResponse, error) {
	return &service.EncryptResponse{Ciphertext: k.aead.Seal(nil, nil, plain, nil), KeyID: keyEncryptionKey}, nil
}

func (k *kmsPlugin) Decrypt(_ context.Context, _ string, request *service.DecryptRequest) ([]byte, error) {
	if request.KeyID != keyEncryptionKey {
		return nil, fmt.Errorf("no key %q", request.KeyID)
	}
	return k.aead.Open(nil, nil, request.Ciphertext, nil)
}

func dialUnix(path string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}
