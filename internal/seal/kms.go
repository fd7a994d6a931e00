package seal

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/validation"
	kmsapi "k8s.io/kms/apis/v2"

	"oidc-provider/rotation"
)

// What a plugin answers must fit these, as in kube-apiserver.
const (
	maxKeyID       = 1 << 10
	maxCiphertext  = 1 << 10
	maxAnnotations = 32 << 10
)

// kmsStanza is the type of the stanza of an age header that a KMS plugin opens.
// Its only argument is the DecryptRequest without ciphertext and uid, in
// base64url; its body is the ciphertext.
const kmsStanza = "oidc-provider/kms-v2"

const fileKeySize = 16 // of age

// kmsRecipient lives for one call of Seal, and so does its context, which the
// interfaces of age have no room for; likewise kmsIdentity.
type kmsRecipient struct {
	ctx    context.Context
	plugin *plugin
	labels []string
}

// Wrap implements [age.Recipient].
func (r *kmsRecipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	req, err := r.plugin.encrypt(r.ctx, fileKey)
	if err != nil {
		return nil, err
	}
	// A plugin that may encrypt and cannot decrypt would be noticed at the
	// next start, when the key is lost.
	switch back, err := r.plugin.decrypt(r.ctx, req); {
	case err != nil:
		return nil, fmt.Errorf("opening what was just sealed: %w", err)
	case !bytes.Equal(back, fileKey):
		return nil, fmt.Errorf("%v does not return what it was given (hint: see the log of the plugin)", r.plugin)
	}
	header, err := proto.MarshalOptions{Deterministic: true}.Marshal(&kmsapi.DecryptRequest{KeyId: req.KeyId, Annotations: req.Annotations})
	if err != nil {
		return nil, err
	}
	return []*age.Stanza{{Type: kmsStanza, Args: []string{base64.RawURLEncoding.EncodeToString(header)}, Body: req.Ciphertext}}, nil
}

// WrapWithLabels implements [age.RecipientWithLabels].
func (r *kmsRecipient) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	stanzas, err := r.Wrap(fileKey)
	return stanzas, r.labels, err
}

type kmsIdentity struct {
	ctx    context.Context
	plugin *plugin // nil if there is none

	asked bool
	err   error // of the plugin, as age might wrap it or not
}

// Unwrap implements [age.Identity].
func (id *kmsIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	var mine *age.Stanza
	for _, s := range stanzas {
		if s.Type != kmsStanza {
			continue
		}
		if mine != nil {
			return nil, errors.New("two KMS stanzas") // Seal makes one, and a stranger could make us ask a thousand times
		}
		mine = s
	}
	if mine == nil || id.plugin == nil {
		return nil, age.ErrIncorrectIdentity
	}
	req, err := parseStanza(mine)
	if err != nil {
		return nil, err
	}
	id.asked = true
	fileKey, err := id.plugin.decrypt(id.ctx, req)
	id.err = err
	return fileKey, err
}

func parseStanza(s *age.Stanza) (*kmsapi.DecryptRequest, error) {
	if len(s.Args) != 1 {
		return nil, errors.New("malformed KMS stanza")
	}
	header, err := base64.RawURLEncoding.Strict().DecodeString(s.Args[0])
	if err != nil {
		return nil, err
	}
	req := &kmsapi.DecryptRequest{}
	if err := proto.Unmarshal(header, req); err != nil {
		return nil, err
	}
	if len(req.Ciphertext) != 0 || req.Uid != "" {
		return nil, errors.New("malformed KMS stanza")
	}
	req.Ciphertext = s.Body
	return req, validate(req)
}

// validate checks what a plugin answers to Encrypt, and what is sent to it
// again later.
func validate(req *kmsapi.DecryptRequest) error {
	switch n := len(req.KeyId); {
	case n == 0:
		return errors.New("the key_id is empty")
	case n > maxKeyID:
		return fmt.Errorf("the key_id has %d bytes, more than %d", n, maxKeyID)
	}
	switch n := len(req.Ciphertext); {
	case n == 0:
		return errors.New("the ciphertext is empty")
	case n > maxCiphertext:
		return fmt.Errorf("the ciphertext has %d bytes, more than %d", n, maxCiphertext)
	}
	total := 0
	for key, value := range req.Annotations {
		if errs := validation.IsFullyQualifiedDomainName(nil, key); len(errs) > 0 {
			return fmt.Errorf("the annotation key %.80q is not a fully qualified domain name", key)
		}
		total += len(key) + len(value)
	}
	if total > maxAnnotations {
		return fmt.Errorf("the annotations have %d bytes, more than %d", total, maxAnnotations)
	}
	return nil
}

// plugin is the client of a KMS v2 plugin.
type plugin struct {
	socket  string
	timeout time.Duration
	conn    *grpc.ClientConn
	client  kmsapi.KeyManagementServiceClient

	dials   atomic.Int64 // connections made so far
	checked atomic.Int64 // the newest of them on which the Status was good
}

func newPlugin(spec string, timeout time.Duration) (*plugin, error) {
	socket, isURL := strings.CutPrefix(spec, "unix://")
	if strings.HasPrefix(socket, "/@") {
		socket = socket[1:]
	}
	if strings.Contains(socket, "://") || strings.HasPrefix(socket, "unix:") || socket == "" || socket == "@" || isURL && socket[0] != '/' && socket[0] != '@' {
		return nil, fmt.Errorf("KMS plugin: %q is not a Unix socket (hint: --kms-socket /path, unix:///path, or @name for an abstract one)", spec)
	}
	if timeout <= 0 {
		timeout = 3 * time.Second
	}
	p := &plugin{socket: socket, timeout: timeout}
	var err error
	p.conn, err = grpc.NewClient("passthrough:///kms",
		grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(p.dial),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 800 * time.Millisecond},
			MinConnectTimeout: timeout,
		}))
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p, err)
	}
	p.client = kmsapi.NewKeyManagementServiceClient(p.conn)
	return p, nil
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
	resp, err := call(ctx, p, "Encrypt", p.client.Encrypt, &kmsapi.EncryptRequest{Plaintext: plain, Uid: uuid.NewString()})
	switch no := refusal(""); {
	case errors.As(err, &no):
		return nil, fmt.Errorf("%w (hint: may the plugin use its key? see its log)", no)
	case err != nil:
		return nil, err
	}
	req := &kmsapi.DecryptRequest{Ciphertext: resp.Ciphertext, KeyId: resp.KeyId, Annotations: resp.Annotations}
	if err := validate(req); err != nil {
		return nil, fmt.Errorf("%v breaks the KMS v2 protocol: %w (hint: kube-apiserver would refuse this as well; see the log of the plugin)", p, err)
	}
	return req, nil
}

func (p *plugin) decrypt(ctx context.Context, req *kmsapi.DecryptRequest) ([]byte, error) {
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	req.Uid = uuid.NewString()
	resp, err := call(ctx, p, "Decrypt", p.client.Decrypt, req)
	switch no := refusal(""); {
	case errors.As(err, &no):
		return nil, fmt.Errorf("%w: %w (hint: it was sealed under key_id %.80q; may the plugin use that?)", ErrNoIdentity, no, req.KeyId)
	case err != nil:
		return nil, err
	case len(resp.Plaintext) != fileKeySize:
		return nil, fmt.Errorf("%v returned %d bytes, and %d were sealed (hint: does the socket belong to the plugin that sealed them?)", p, len(resp.Plaintext), fileKeySize)
	}
	return resp.Plaintext, nil
}

// check asks for the Status once a connection, for it says what is wrong in
// words that calls on a wrong plugin do not have.
func (p *plugin) check(ctx context.Context) error {
	if n := p.dials.Load(); n > 0 && n == p.checked.Load() {
		return nil
	}
	s, err := call(ctx, p, "Status", p.client.Status, &kmsapi.StatusRequest{})
	switch {
	case err != nil:
		return err
	case s.Version != "v2" && s.Version != "v2beta1":
		return fmt.Errorf("%v speaks version %.20q of the KMS API, not v2 (hint: v1 will not do; is it the right socket?)", p, s.Version)
	case s.Healthz != "ok":
		return unavailable{fmt.Errorf("%v is not healthy: it reports %#.300q (hint: see its log)", p, s.Healthz)}
	}
	p.checked.Store(p.dials.Load())
	return nil
}

func call[Req, Resp any](ctx context.Context, p *plugin, name string, rpc func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req *Req) (*Resp, error) {
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	resp, err := rpc(limited, req)
	if err == nil {
		return resp, nil
	}
	// The text is cut and quoted, since the plugin wrote it, and the gRPC status
	// left behind: whoever is served over gRPC must not be told it as ours.
	text := fmt.Sprintf("%v: %s: %#.300q", p, name, status.Convert(err).Message())
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, fmt.Errorf("%s: %w", text, ctx.Err())
	}
	switch status.Code(err) {
	case codes.Unimplemented:
		return nil, fmt.Errorf("%s (hint: this plugin does not speak KMS v2, and v1 will not do; is it the right socket?)", text)
	case codes.InvalidArgument, codes.NotFound, codes.PermissionDenied, codes.Unauthenticated, codes.FailedPrecondition, codes.OutOfRange, codes.DataLoss:
		return nil, refusal(text)
	}
	// Plugins written in Go say Unknown to whatever else goes wrong behind them.
	return nil, unavailable{fmt.Errorf("%s (hint: is the plugin running, and may this process open its socket?)", text)}
}

// refusal is the error of a plugin that was there and said that it will not,
// which no waiting mends.
type refusal string

func (r refusal) Error() string { return string(r) }

// unavailable is [rotation.ErrUnavailable], whose text speaks of the store, in
// other words.
type unavailable struct{ error }

func (u unavailable) Unwrap() []error { return []error{u.error, rotation.ErrUnavailable} }
