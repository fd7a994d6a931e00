package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	externaljwt "k8s.io/externaljwt/apis/v1"
)

// TestCutOff cuts a replica off from its store for longer than publish-ahead,
// in the two ways in which a network fails: it refuses, or says nothing.
func TestCutOff(t *testing.T) {
	lab := newLab(t)
	p := lab.startControlPlane(1, calm)
	r := p.replicas[0]
	for _, cut := range []struct {
		name string
		cut  func(*replica)
	}{{"refused", (*replica).refuse}, {"silent", (*replica).silence}} {
		t.Run(cut.name, func(t *testing.T) {
			// It counts from the beginning of a read, which may have taken long.
			if err := p.agree(r, time.Now(), agreement); err != nil {
				t.Fatal(err)
			}
			process, keys := r.process, r.published(t)
			cut.cut(r)
			began := time.Now()
			p.checkCutOff(t, r, began)
			if r.process != process || r.published(t) != keys {
				t.Error("it was started again, or shows other keys")
			}
			r.reconnect()
			healed := time.Now()
			eventually(t, "it is ready and signs again", agreement, func() error {
				if err := r.ready(); err != nil {
					return err
				}
				return r.sign(t.Context())
			})
			t.Logf("ready and signing %s after the cut", time.Since(healed).Round(time.Millisecond))
			// The API server asks its signer every time.
			p.checkSigns(t, r)
		})
	}
}

// checkCutOff follows a replica that was cut off at began.
func (p *controlPlane) checkCutOff(t *testing.T, r *replica, began time.Time) {
	t.Helper()
	ahead := r.policy.publishAhead
	var unready time.Duration
	for time.Since(began) < ahead-time.Second {
		p.checkSigns(t, r)
		if unready == 0 && r.ready() != nil {
			unready = time.Since(began)
		}
		time.Sleep(50 * time.Millisecond)
	}
	// It read last up to one poll before, and the next was under way.
	if unready < ahead/2-time.Second || unready > ahead/2+time.Second/2 {
		t.Errorf("not ready %s after the cut, want after half of publish-ahead, %s", unready, ahead)
	}
	var refused error
	eventually(t, "it refuses to sign", 2*time.Second, func() error {
		if refused = r.sign(t.Context()); refused == nil {
			return fmt.Errorf("it signs %s after the cut", time.Since(began))
		}
		return nil
	})
	t.Logf("not ready after %s, and after %s it refuses: %v", unready.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), refused)
	checkReason(t, refused)
	if code := status.Code(refused); code != codes.Unavailable {
		t.Errorf("it refuses with %s, want %s: kube-apiserver asks again then", code, codes.Unavailable)
	}
	_, err := r.cluster.requestToken(t.Context(), shortest, nil, audience)
	t.Logf("TokenRequest: %v", err)
	checkReason(t, err)
	r.checkPublishes(t)
}

// checkReason wants an error to say what is wrong, and for how long.
func checkReason(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, part := range []string{"the ring was last read", "after 5s (publish-ahead)"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in %q", part, err)
		}
	}
}

// checkPublishes wants the documents of a replica that is not ready, and the
// reason why it is not.
func (r *replica) checkPublishes(t *testing.T) {
	t.Helper()
	client := r.lab.ca.client()
	for url, want := range map[string]int{
		r.address() + "/.well-known/openid-configuration": http.StatusOK,
		r.address() + "/openid/v1/jwks":                   http.StatusOK,
		"http://" + r.admin + "/livez":                    http.StatusOK,
		"http://" + r.admin + "/readyz?verbose":           http.StatusServiceUnavailable,
	} {
		got, body, err := get(t.Context(), client, url)
		if err != nil || got != want {
			t.Errorf("GET %s: %d %v, want %d\n%s", url, got, err, want, body)
		}
		if want == http.StatusServiceUnavailable && (!strings.Contains(body, "[-]keys failed: the ring was last read") || !strings.Contains(body, "[!]rotation: reading the ring")) {
			t.Errorf("GET %s does not name the age of the ring and what is wrong with the store:\n%s", url, body)
		}
	}
}

func (r *replica) published(t testing.TB) string {
	t.Helper()
	status, body, err := get(t.Context(), r.lab.ca.client(), r.address()+"/openid/v1/jwks")
	if err != nil || status != http.StatusOK {
		t.Fatalf("JWKS: %d %v", status, err)
	}
	return body
}

func (p *controlPlane) checkSigns(t *testing.T, r *replica) {
	t.Helper()
	if _, err := r.cluster.requestToken(t.Context(), shortest, nil, audience); err != nil {
		t.Error(err)
	}
}

// sign asks the signer itself, past the API server.
func (r *replica) sign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := grpc.NewClient("unix:"+r.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		return err
	}
	defer conn.Close()
	claims := fmt.Sprintf(`{"iss":%q,"exp":%d}`, r.issuer, time.Now().Add(time.Minute).Unix())
	_, err = externaljwt.NewExternalJWTSignerClient(conn).Sign(ctx, &externaljwt.SignJWTRequest{
		Claims: base64.RawURLEncoding.EncodeToString([]byte(claims)),
	})
	return err
}

// TestDeadConnections loses the state of a replica's connection for a moment, as
// a firewall does that is restarted: nobody is told, and new connections are
// fine.
func TestDeadConnections(t *testing.T) {
	lab := newLab(t)
	p := lab.startReplicas(1, shared)
	r := p.replicas[0]
	for _, lasts := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second} {
		r.silence()
		time.Sleep(lasts)
		r.reconnect()
		agreed := p.awaitAgreement("connection dead", r)
		t.Logf("connection dead after %s of silence: read again after %s", lasts, agreed.Round(time.Millisecond))
		time.Sleep(time.Second)
	}
}
