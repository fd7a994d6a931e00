package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	kmsapi "k8s.io/kms/apis/v2"

	"oidc-provider/internal/hint"
	"oidc-provider/rotation"
)

// plugin is the client of a KMS v2 plugin.
type plugin struct {
	socket  string
	timeout time.Duration
	close   func() error // closes the connection once
	client  kmsapi.KeyManagementServiceClient

	dials   atomic.Int64 // connections so far
	checked atomic.Int64 // value of dials for the last connection with a good Status

	mu      sync.Mutex
	writers map[string]rotation.WriterKey // by seed, see writerKey; guarded by mu
}

const defaultTimeout = 3 * time.Second

func newPlugin(spec string, timeout time.Duration) (*plugin, error) {
	socket, err := parseSocket(spec)
	if err != nil {
		return nil, err
	}
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	p := &plugin{socket: socket, timeout: timeout}
	conn, err := grpc.NewClient("passthrough:///kms",
		grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(p.dial),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  50 * time.Millisecond,
				Multiplier: 2,
				Jitter:     0.2,
				MaxDelay:   800 * time.Millisecond,
			},
			MinConnectTimeout: timeout,
		}))
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p, err)
	}
	p.close = sync.OnceValue(conn.Close)
	p.client = kmsapi.NewKeyManagementServiceClient(conn)
	return p, nil
}

// parseSocket returns the path or @name of a Unix socket, as net.Dial takes it.
func parseSocket(spec string) (string, error) {
	socket, isURL := strings.CutPrefix(spec, "unix://")
	if strings.HasPrefix(socket, "/@") {
		socket = socket[1:]
	}
	if strings.Contains(socket, "://") || strings.HasPrefix(socket, "unix:") || socket == "" || socket == "@" ||
		isURL && socket[0] != '/' && socket[0] != '@' {
		return "", hint.Errorf("set {kmsSocket} to /path, unix:///path, or @name for an abstract socket",
			"KMS plugin: %q is not a Unix socket", spec)
	}
	return socket, nil
}

func (p *plugin) String() string { return "the KMS plugin at " + p.socket }

func (p *plugin) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", p.socket)
	if err == nil {
		p.dials.Add(1)
	}
	return conn, err
}

func (p *plugin) encrypt(ctx context.Context, plain []byte) (*kmsapi.DecryptRequest, error) {
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	req := &kmsapi.EncryptRequest{Plaintext: plain, Uid: uuid.NewString()}
	resp, err := call(ctx, p, "Encrypt", p.client.Encrypt, req)
	switch refused := refusal(""); {
	case errors.As(err, &refused):
		return nil, hint.Wrap(refused, "allow the plugin to encrypt and decrypt with its key; "+seeLog)
	case err != nil:
		return nil, err
	}
	sealed := &kmsapi.DecryptRequest{Ciphertext: resp.Ciphertext, KeyId: resp.KeyId, Annotations: resp.Annotations}
	if err := validate(sealed); err != nil {
		return nil, hint.Errorf("kube-apiserver would refuse this answer, too; "+seeLog,
			"%v violates the KMS v2 protocol: %w", p, err)
	}
	return sealed, nil
}

// seal encrypts plain, and decrypts the result once: a plugin that can encrypt but
// not decrypt would otherwise be noticed at the next start, when the key is lost.
func (p *plugin) seal(ctx context.Context, plain []byte) (*kmsapi.DecryptRequest, error) {
	req, err := p.encrypt(ctx, plain)
	if err != nil {
		return nil, err
	}
	switch back, err := p.decrypt(ctx, req, len(plain)); {
	case err != nil:
		return nil, fmt.Errorf("opening the key that was just sealed: %w", err)
	case !bytes.Equal(back, plain):
		return nil, hint.Errorf(seeLog, "%v does not return the bytes that it encrypted", p)
	}
	req.Uid = ""
	return req, nil
}

// decrypt opens what was sealed, which had size bytes.
func (p *plugin) decrypt(ctx context.Context, req *kmsapi.DecryptRequest, size int) ([]byte, error) {
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	req.Uid = uuid.NewString()
	resp, err := call(ctx, p, "Decrypt", p.client.Decrypt, req)
	switch refused := refusal(""); {
	case errors.As(err, &refused):
		help := fmt.Sprintf("allow the plugin to decrypt with the key that sealed this, key_id %.80q", req.KeyId)
		return nil, hint.Errorf(help, "%w: %w", ErrNoIdentity, refused)
	case err != nil:
		return nil, err
	case len(resp.Plaintext) != size:
		return nil, hint.Errorf("set {kmsSocket} to the plugin that sealed them",
			"%v returned %d bytes instead of the %d that were sealed", p, len(resp.Plaintext), size)
	}
	return resp.Plaintext, nil
}

const (
	seeLog      = "see the log of the plugin"
	wrongPlugin = "set {kmsSocket} to a plugin for KMS v2; v1 is not supported"
)

// check calls Status once per connection: its errors explain a wrong plugin better
// than those of the other calls.
func (p *plugin) check(ctx context.Context) error {
	if n := p.dials.Load(); n > 0 && n == p.checked.Load() {
		return nil
	}
	s, err := call(ctx, p, "Status", p.client.Status, &kmsapi.StatusRequest{})
	switch {
	case err != nil:
		return err
	case s.Version != "v2" && s.Version != "v2beta1":
		return hint.Errorf(wrongPlugin, "%v has version %.20q of the KMS API, not v2", p, s.Version)
	case s.Healthz != "ok":
		return unavailable{hint.Errorf(seeLog, "%v is not healthy: it reports %#.300q", p, s.Healthz)}
	}
	p.checked.Store(p.dials.Load())
	return nil
}

type method[Req, Resp any] = func(context.Context, *Req, ...grpc.CallOption) (*Resp, error)

// call calls a method of the plugin. Its error names the plugin, and is a refusal,
// wraps [rotation.ErrUnavailable], or needs an operator.
func call[Req, Resp any](ctx context.Context, p *plugin, name string, rpc method[Req, Resp], req *Req) (*Resp, error) {
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	resp, err := rpc(limited, req)
	if err == nil {
		return resp, nil
	}
	// The text of the plugin is shortened and quoted. Its gRPC status is dropped:
	// a client of our signer socket must not receive it as ours.
	text := fmt.Sprintf("%v: %s: %#.300q", p, name, status.Convert(err).Message())
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, fmt.Errorf("%s: %w", text, ctx.Err())
	}
	switch status.Code(err) {
	case codes.Unimplemented:
		return nil, hint.Errorf(wrongPlugin, "%s: this plugin does not implement KMS v2", text)
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.Unauthenticated,
		codes.FailedPrecondition, codes.OutOfRange, codes.DataLoss:
		return nil, refusal(text)
	}
	// Plugins written in Go return Unknown for every failure behind them.
	return nil, unavailable{hint.Errorf("check that the plugin runs, and that this process can open its socket",
		"%s", text)}
}

// refusal is the error of a plugin that answered and refused. Waiting does not help.
type refusal string

func (r refusal) Error() string { return string(r) }

// unavailable wraps [rotation.ErrUnavailable] without its text, which is about the
// store.
type unavailable struct{ error }

func (u unavailable) Unwrap() []error { return []error{u.error, rotation.ErrUnavailable} }
