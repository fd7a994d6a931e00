package signer_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	externaljwt "k8s.io/externaljwt/apis/v1"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/signer"
	"oidc-provider/jwks"
	"oidc-provider/rotation"
)

const issuer = "https://oidc.example.test"

// ringKeys are the keys of a ring that was read just now, or an error.
type ringKeys struct {
	view *rotation.View
	err  error
}

func (k *ringKeys) View() *rotation.View { return k.view }

func (k *ringKeys) Signer(now time.Time) (rotation.Signer, error) {
	if k.err != nil {
		return rotation.Signer{}, k.err
	}
	return k.view.Signer(now)
}

func newKeys(t testing.TB, alg jose.SignatureAlgorithm) *ringKeys {
	t.Helper()
	keys, err := makeKeys(alg)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func makeKeys(alg jose.SignatureAlgorithm) (*ringKeys, error) {
	r, err := rotation.New(issuer, rotation.Policy{Algorithm: alg}, time.Now(), rotation.GenerateKey)
	return &ringKeys{view: rotation.NewView(r)}, err
}

// dial serves keys on a socket and connects to it as kube-apiserver does.
func dial(t testing.TB, keys signer.Keys, metrics prometheus.Registerer) *grpc.ClientConn {
	t.Helper()
	// t.TempDir may be longer than a socket's name can be.
	dir, err := os.MkdirTemp("", "signer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := signer.Listen(context.Background(), path, signer.Access{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- signer.NewServer(keys, 0, slog.New(slog.DiscardHandler)).Serve(ctx, l, metrics)
	}()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func encode(claims string) string { return base64.RawURLEncoding.EncodeToString([]byte(claims)) }

func goodClaims(lifetime time.Duration) string {
	return encode(fmt.Sprintf(`{"aud":["x"],"exp":%d,"iss":%q,"sub":"system:serviceaccount:a:b"}`, time.Now().Add(lifetime).Unix(), issuer))
}

func TestSign(t *testing.T) {
	for _, alg := range jwks.Algorithms {
		keys := newKeys(t, alg)
		metrics := prometheus.NewRegistry()
		client := externaljwt.NewExternalJWTSignerClient(dial(t, keys, metrics))
		claims := goodClaims(time.Hour)
		resp, err := client.Sign(t.Context(), &externaljwt.SignJWTRequest{Claims: claims})
		if err != nil {
			t.Fatal(err)
		}
		active := keys.view.Ring().Active(time.Now())
		jws, err := jose.ParseSignedCompact(resp.Header+"."+claims+"."+resp.Signature, []jose.SignatureAlgorithm{alg})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jws.Verify(active.PublicKey().Key()); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		raw, _ := base64.RawURLEncoding.DecodeString(resp.Header)
		var header map[string]string
		if err := json.Unmarshal(raw, &header); err != nil || len(header) != 3 || header["typ"] != "JWT" || header["kid"] != active.KeyID || header["alg"] != string(alg) {
			t.Errorf("%s: header %s", alg, raw)
		}
		if n, err := testutil.GatherAndCount(metrics, "grpc_server_handled_total"); n == 0 || err != nil {
			t.Errorf("%s: calls are not counted: %v", alg, err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	keys := newKeys(t, jose.ES256)
	client := externaljwt.NewExternalJWTSignerClient(dial(t, keys, prometheus.NewRegistry()))
	soon := time.Now().Add(time.Hour).Unix()
	const (
		noBase64 = "the claims are not unpadded base64url"
		noJSON   = "the claims are not a JSON object with iss and exp, each once"
		differs  = "relying parties could read the claims differently"
		tooLate  = "exp is later than the longest token lifetime allows"
	)
	for _, tt := range []struct{ name, claims, want string }{
		{"not base64url", "{}", noBase64},
		{"padded", encode(`{"a":1}`) + "=", noBase64},
		{"empty", "", noJSON},
		{"not JSON", encode("x"), noJSON},
		{"null", encode("null"), "iss is missing"},
		{"array", encode("[]"), noJSON},
		{"two documents", encode(fmt.Sprintf(`{"iss":%q,"exp":%d}{}`, issuer, soon)), noJSON},
		{"no iss", encode(fmt.Sprintf(`{"exp":%d}`, soon)), "iss is missing"},
		{"other iss", encode(fmt.Sprintf(`{"iss":"https://evil.test","exp":%d}`, soon)), "iss is not the issuer of this signer"},
		{"iss twice", encode(fmt.Sprintf(`{"iss":"https://evil.test","iss":%q,"exp":%d}`, issuer, soon)), differs},
		{"iss in upper case", encode(fmt.Sprintf(`{"ISS":%q,"exp":%d}`, issuer, soon)), differs},
		{"no exp", encode(fmt.Sprintf(`{"iss":%q}`, issuer)), "exp is missing"},
		{"exp null", encode(fmt.Sprintf(`{"iss":%q,"exp":null}`, issuer)), "exp is missing"},
		{"exp text", encode(fmt.Sprintf(`{"iss":%q,"exp":"1"}`, issuer)), noJSON},
		{"exp twice", encode(fmt.Sprintf(`{"iss":%q,"exp":%d,"exp":1}`, issuer, soon*2)), differs},
		{"exp beyond", goodClaims(24*time.Hour + 2*time.Second), tooLate},
		{"exp far beyond", encode(fmt.Sprintf(`{"iss":%q,"exp":1e300}`, issuer)), tooLate},
		{"exp overflow", encode(fmt.Sprintf(`{"iss":%q,"exp":1e400}`, issuer)), noJSON},
	} {
		_, err := client.Sign(t.Context(), &externaljwt.SignJWTRequest{Claims: tt.claims})
		if status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() != tt.want {
			t.Errorf("%s: got %v, want InvalidArgument with %q", tt.name, err, tt.want)
		}
	}
	for _, claims := range []string{goodClaims(24 * time.Hour), goodClaims(-time.Hour)} {
		if _, err := client.Sign(t.Context(), &externaljwt.SignJWTRequest{Claims: claims}); err != nil {
			t.Errorf("%s: %v", claims, err)
		}
	}
	keys.err = &rotation.StaleError{Age: 25 * time.Hour, Limit: 24 * time.Hour}
	_, err := client.Sign(t.Context(), &externaljwt.SignJWTRequest{Claims: goodClaims(time.Hour)})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the ring was last read 25h0m0s ago") {
		t.Errorf("without fresh knowledge: %v, want Unavailable with the reason", err)
	}
}

func TestFetchKeysAndMetadata(t *testing.T) {
	keys := newKeys(t, jose.ES256)
	legacy, err := jwks.Generate(jose.ES384, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rotation.ImportVerifying(keys.view.Ring(), legacy.PublicKey, true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	next := r.Standby(time.Now())
	if r, _, err = rotation.Revoke(r, next.KeyID, time.Now(), rotation.GenerateKey); err != nil {
		t.Fatal(err)
	}
	keys.view = rotation.NewView(r)
	client := externaljwt.NewExternalJWTSignerClient(dial(t, keys, prometheus.NewRegistry()))
	resp, err := client.FetchKeys(t.Context(), &externaljwt.FetchKeysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !resp.DataTimestamp.AsTime().Equal(r.Updated) || resp.RefreshHintSeconds != 60 {
		t.Errorf("timestamp %v, hint %d; want %v, 60", resp.DataTimestamp.AsTime(), resp.RefreshHintSeconds, r.Updated)
	}
	var want []string
	for _, k := range r.Keys {
		if k.KeyID != next.KeyID {
			want = append(want, fmt.Sprintf("%s %t", k.KeyID, k.KeyID == legacy.KeyID()))
		}
	}
	var got []string
	for _, k := range resp.Keys {
		parsed, err := jwks.ParsePKIX(k.Key)
		if err != nil || parsed.KeyID() != k.KeyId {
			t.Errorf("key %s: %v", k.KeyId, err)
		}
		got = append(got, fmt.Sprintf("%s %t", k.KeyId, k.ExcludeFromOidcDiscovery))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("keys %v, want %v", got, want)
	}
	meta, err := client.Metadata(t.Context(), &externaljwt.MetadataRequest{})
	if err != nil || meta.MaxTokenExpirationSeconds != 86400 {
		t.Errorf("metadata %v, %v", meta, err)
	}
}

// A key that relying parties cannot use is for kube-apiserver alone, which would
// otherwise publish it.
func TestFetchUnusableKey(t *testing.T) {
	data, err := os.ReadFile("../../testdata/cases/rsa-8192.pub")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	large, err := jwks.ParsePKIXUnchecked(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	keys := newKeys(t, jose.ES256)
	r, err := rotation.ImportVerifying(keys.view.Ring(), large, false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys.view = rotation.NewView(r)
	client := externaljwt.NewExternalJWTSignerClient(dial(t, keys, prometheus.NewRegistry()))
	resp, err := client.FetchKeys(t.Context(), &externaljwt.FetchKeysRequest{})
	if err != nil || len(resp.Keys) != 3 {
		t.Fatalf("got %v, %v", resp, err)
	}
	for _, k := range resp.Keys {
		if k.ExcludeFromOidcDiscovery != (k.KeyId == large.KeyID()) {
			t.Errorf("key %s: excluded is %t", k.KeyId, k.ExcludeFromOidcDiscovery)
		}
	}
}

func TestHealth(t *testing.T) {
	keys := newKeys(t, jose.ES256)
	client := grpc_health_v1.NewHealthClient(dial(t, keys, prometheus.NewRegistry()))
	for err, want := range map[error]grpc_health_v1.HealthCheckResponse_ServingStatus{
		nil:                grpc_health_v1.HealthCheckResponse_SERVING,
		errors.New("gone"): grpc_health_v1.HealthCheckResponse_NOT_SERVING,
	} {
		keys.err = err
		resp, callErr := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if callErr != nil || resp.Status != want {
			t.Errorf("with %v: %v, %v", err, resp, callErr)
		}
	}
}

// panicking keys simulate a defect of this program.
type panicking struct{ signer.Keys }

func (panicking) Signer(time.Time) (rotation.Signer, error) { panic("defect") }

func TestPanicIsAnAnswer(t *testing.T) {
	keys := newKeys(t, jose.ES256)
	client := externaljwt.NewExternalJWTSignerClient(dial(t, panicking{keys}, prometheus.NewRegistry()))
	_, err := client.Sign(t.Context(), &externaljwt.SignJWTRequest{Claims: goodClaims(time.Hour)})
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "defect") {
		t.Errorf("got %v, want Internal without the cause", err)
	}
	if _, err := client.FetchKeys(t.Context(), &externaljwt.FetchKeysRequest{}); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

func TestListen(t *testing.T) {
	dir, err := os.MkdirTemp("", "signer")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := signer.Listen(t.Context(), path, signer.Access{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := signer.Listen(t.Context(), path, signer.Access{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(hint.Of(err), "another oidc-provider") {
		t.Errorf("a live socket: %v", err)
	}
	// A process that was killed leaves its socket file.
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if l, err = signer.Listen(t.Context(), path, signer.Access{}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	l.Close()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket was left behind")
	}

	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Listen(t.Context(), path, signer.Access{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file that is not a socket: %v", err)
	}
	if data, _ := os.ReadFile(path); string(data) != "mine" {
		t.Errorf("the file became %q", data)
	}
}

// What CheckClaims lets through is what a relying party would read in it.
func FuzzCheckClaims(f *testing.F) {
	keys := newKeys(f, jose.ES256)
	s, err := keys.Signer(time.Now())
	if err != nil {
		f.Fatal(err)
	}
	for _, claims := range []string{
		`{"iss":"` + issuer + `","exp":1}`, `{"iss":"` + issuer + `","exp":1e9}`, `{"iss":"` + issuer + `","exp":-0.5,"EXP":1e99}`,
		`{"iss":"` + issuer + `","exp":1,"exp":1e99}`, `{"Iss":"x","iss":"` + issuer + `","exp":1}`, `{}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(claims))
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, raw []byte) {
		claims := base64.RawURLEncoding.EncodeToString(raw)
		if signer.CheckClaims(claims, s, now) != nil {
			return
		}
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatalf("accepted, and not JSON: %v", err)
		}
		if m["iss"] != issuer {
			t.Fatalf("accepted with iss %v", m["iss"])
		}
		exp, ok := m["exp"].(float64)
		for name := range m {
			for _, claim := range []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"} {
				if name != claim && strings.EqualFold(name, claim) {
					t.Fatalf("accepted with %q", name)
				}
			}
		}
		if limit := float64(now.Add(s.MaxTokenLifetime).Unix()); !ok || !(exp <= limit+1) {
			t.Fatalf("accepted with exp %v", m["exp"])
		}
	})
}
