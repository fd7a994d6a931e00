package fleet_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	externaljwt "k8s.io/externaljwt/apis/v1"

	"oidc-provider/internal/config"
	"oidc-provider/internal/fleet"
	"oidc-provider/internal/hint"
)

// A server is one of a world, which runs as a process would. Its methods return
// errors, so that many goroutines can use many servers.
type server struct {
	world *world
	fleet *fleet.Fleet

	store, state, socket string
	signs                bool

	transport *http.Transport
	client    externaljwt.ExternalJWTSignerClient
	stop      func() error
}

// startServer starts a server of w on a store with a document. from is the directory
// with the rollback state that another server has left, or "", or "none" for a server
// that keeps none.
func startServer(t testing.TB, w *world, document []byte, from string) (*server, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "attack") // shorter than t.TempDir, for the socket
	if err != nil {
		return nil, err
	}
	s := &server{world: w, store: filepath.Join(dir, "keys"), state: filepath.Join(dir, "state"),
		socket: filepath.Join(dir, "s"), signs: !strings.Contains(w.config, "publishOnly"),
		transport: &http.Transport{DisableCompression: true}}
	managed := "trustClock: true, store: " + s.store + ", witnesses: [none], " + w.config
	if from != "none" {
		managed += ", rollbackState: " + s.state
	}
	if s.signs {
		managed += ", signerSocket: " + s.socket
	}
	text := fmt.Sprintf("listen: 127.0.0.1:0\nadminListen: 127.0.0.1:0\nanyHost: true\nshutdownDelay: 1ms\n"+
		"issuers: [{issuer: %s, managed: {%s}}]\n", attackedIssuer, managed)
	file := filepath.Join(dir, "config.yaml")
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Mkdir(s.store, 0o700), s.put(document),
		copyState(s.state, from)); err != nil {
		return nil, err
	}
	settings, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	if s.fleet, err = fleet.New(ctx, fleet.Config{Settings: settings, File: file, Content: []byte(text),
		SettingName: hint.Field, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}); err != nil {
		cancel()
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///localhost", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.socket)
		}))
	if err != nil {
		cancel()
		return nil, err
	}
	s.client = externaljwt.NewExternalJWTSignerClient(conn)
	done := make(chan error, 1)
	go func() { done <- s.fleet.Run(ctx) }()
	s.stop = func() error {
		cancel()
		s.transport.CloseIdleConnections()
		return errors.Join(<-done, conn.Close(), os.RemoveAll(dir))
	}
	return s, nil
}

func copyState(to, from string) error {
	data, err := os.ReadFile(filepath.Join(from, "ring.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, os.Mkdir(to, 0o700), os.WriteFile(filepath.Join(to, "ring.json"), data, 0o600))
}

// put writes the store as an attacker does: nil removes the ring.
func (s *server) put(document []byte) error {
	path := filepath.Join(s.store, "ring.json")
	if document == nil {
		return os.RemoveAll(path)
	}
	return errors.Join(os.WriteFile(path+".attack", document, 0o600), os.Rename(path+".attack", path))
}

// answers is how long an answer may take.
const answers = 10 * time.Second

// get returns the status and the body of an answer.
func (s *server) get(addr net.Addr, path string, timeout time.Duration) (int, string, error) {
	client := http.Client{Timeout: timeout, Transport: s.transport}
	resp, err := client.Get("http://" + addr.String() + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// A clientsView is what clients of a server see, as text to compare: the key set, the kid
// that signs a token, the longest lifetime of a token, and the keys for kube-apiserver.
type clientsView struct{ keySet, signer, lifetime, keys string }

// see returns what clients of s see now: without an answer in time a part is "".
func (s *server) see(timeout time.Duration) (v clientsView) {
	if status, body, err := s.get(s.fleet.PublicAddr(), "/openid/v1/jwks", timeout); err == nil && status == http.StatusOK {
		v.keySet = body
	}
	if !s.signs {
		return v
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	claims := fmt.Sprintf(`{"aud":["x"],"exp":%d,"iss":%q,"sub":"system:serviceaccount:a:b"}`, time.Now().Add(time.Hour).Unix(),
		attackedIssuer)
	token, err := s.client.Sign(ctx, &externaljwt.SignJWTRequest{Claims: base64.RawURLEncoding.EncodeToString([]byte(claims))})
	if err == nil {
		header, _ := base64.RawURLEncoding.DecodeString(token.Header)
		var kid struct{ KID string }
		check(json.Unmarshal(header, &kid))
		v.signer = kid.KID
	}
	if m, err := s.client.Metadata(ctx, &externaljwt.MetadataRequest{}); err == nil {
		v.lifetime = fmt.Sprint(m.MaxTokenExpirationSeconds)
	}
	if all, err := s.client.FetchKeys(ctx, &externaljwt.FetchKeysRequest{}); err == nil {
		for _, k := range all.Keys {
			v.keys += fmt.Sprint(k.KeyId, k.ExcludeFromOidcDiscovery, " ")
		}
	}
	return v
}

// metric returns the value of a metric of the issuer, "" if it is absent.
func (s *server) metric(name string) string {
	_, body, err := s.get(s.fleet.AdminAddr(), "/metrics", answers)
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, fmt.Sprintf("oidc_provider_%s{issuer=%q} ", name, attackedIssuer)); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (s *server) report() string {
	_, body, err := s.get(s.fleet.AdminAddr(), "/readyz?verbose", answers)
	if err != nil {
		return err.Error()
	}
	return body
}

func (s *server) ring() []byte {
	data, err := os.ReadFile(filepath.Join(s.store, "ring.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []byte(err.Error())
	}
	return data
}

// await waits until ok. It asks less and less often: there are many servers.
func (s *server) await(what string, ok func() bool) error {
	wait := 5 * time.Millisecond
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(wait) {
		wait = min(2*wait, 100*time.Millisecond)
		if time.Now().After(end) {
			return fmt.Errorf("not after 20s: %s\n%s", what, s.report())
		}
	}
	return nil
}

// refused waits until the alarm rings, for one of several reasons with | between.
func (s *server) refused(reasons string) error {
	err := s.await("the report has "+reasons, func() bool {
		report := s.report()
		return slices.ContainsFunc(strings.Split(reasons, "|"), func(r string) bool { return strings.Contains(report, r) })
	})
	if value := s.metric("ring_refused"); err == nil && value != "1" {
		err = fmt.Errorf("ring_refused is %q", value)
	}
	return err
}

var readAgo = regexp.MustCompile(`generation \d+, read (\S+) ago`)

// settled waits until the server has read the document that was put at a time, and is
// content with it.
func (s *server) settled(document []byte, put time.Time) error {
	err := s.await("the ring is read without an error", func() bool {
		report := s.report()
		match := readAgo.FindStringSubmatch(report)
		if match == nil || strings.Contains(report, "[!]") || strings.Contains(report, "[-]") {
			return false
		}
		age, err := time.ParseDuration(match[1])
		return err == nil && age < time.Since(put)
	})
	if value := s.metric("ring_refused"); err == nil && value != "0" {
		err = fmt.Errorf("ring_refused is %q", value)
	}
	if err == nil && document != nil && !bytes.Equal(s.ring(), document) {
		err = errors.New("the server has replaced the ring")
	}
	return err
}
