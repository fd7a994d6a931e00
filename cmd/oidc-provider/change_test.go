package main

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	externaljwt "k8s.io/externaljwt/apis/v1"
)

// signsFor asks the socket name in p's directory for a token of issuer, and
// returns why it gets none.
func (p *process) signsFor(name, issuer string) error {
	conn, err := grpc.NewClient("unix:"+filepath.Join(p.dir, name), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Second)
	defer cancel()
	claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iss":%q,"exp":%d}`, issuer, time.Now().Add(30*time.Minute).Unix()))
	_, err = externaljwt.NewExternalJWTSignerClient(conn).Sign(ctx, &externaljwt.SignJWTRequest{Claims: claims})
	return err
}

func (p *process) signs(name, issuer string) {
	p.t.Helper()
	p.eventually(name+" signs for "+issuer, func() bool { return p.signsFor(name, issuer) == nil })
}

func managedEntry(name, more string) string {
	return fmt.Sprintf("- {issuer: 'https://oidc.test/%s', managed: {store: ring-%[1]s, create: true, witnesses: [none], %s}}\n", name, more)
}

// A socket belongs to one issuer at a time, and one that changes concerns nobody
// else.
func TestSocketsChangeHands(t *testing.T) {
	t.Parallel()
	p := configured(t, map[string]string{"config.yaml": "issuers:\n" + managedEntry("a", "signerSocket: a.sock") + managedEntry("b", "signerSocket: b.sock")})
	a, b := "https://oidc.test/a", "https://oidc.test/b"
	p.signs("a.sock", a)
	p.signs("b.sock", b)

	// Another path, while somebody hangs on to the old one.
	idle, err := grpc.NewClient("unix:"+filepath.Join(p.dir, "a.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	idle.Connect()
	p.write("config.yaml", "issuers:\n"+managedEntry("a", "signerSocket: a2.sock")+managedEntry("b", "signerSocket: b.sock"))
	p.signs("a2.sock", a)
	p.write("config.yaml", "issuers:\n"+managedEntry("a", "signerSocket: a.sock")+managedEntry("b", "signerSocket: b.sock"))
	p.signs("a.sock", a)

	// Two that change places have to do it one after the other.
	p.write("config.yaml", "issuers:\n"+managedEntry("a", "signerSocket: b.sock")+managedEntry("b", "signerSocket: a.sock"))
	p.eventually("it is told", func() bool { return strings.Contains(p.readyz(), "it still signs for issuer "+b) })
	for socket, issuer := range map[string]string{"a.sock": a, "b.sock": b} {
		if err := p.signsFor(socket, issuer); err != nil {
			t.Errorf("while they wait for each other: %s for %s: %v", socket, issuer, err)
		}
	}
	p.write("config.yaml", "issuers:\n"+managedEntry("a", "signerSocket: b.sock"))
	p.signs("b.sock", a)
	p.write("config.yaml", "issuers:\n"+managedEntry("a", "signerSocket: b.sock")+managedEntry("b", "signerSocket: a.sock"))
	p.signs("a.sock", b)

	// One that is taken by a stranger is tried again.
	p.write("c.sock", "a file")
	p.write("config.yaml", "issuers:\n"+managedEntry("a", "signerSocket: b.sock")+managedEntry("c", "signerSocket: c.sock"))
	p.eventually("it is told", func() bool { return strings.Contains(p.readyz(), "the file is not a socket") })
	if err := os.Remove(filepath.Join(p.dir, "c.sock")); err != nil {
		t.Fatal(err)
	}
	p.signs("c.sock", "https://oidc.test/c")
	p.stop()
}

// A ring that does not know the keys which are published is not gone over to.
func TestRingIsNotReplacedByAnother(t *testing.T) {
	t.Parallel()
	entry := func(more string) string { return "issuers:\n- {issuer: 'https://oidc.test', " + more + "}\n" }
	p := configured(t, map[string]string{
		"config.yaml": entry("managed: {store: one, create: true, witnesses: [none], signerSocket: s.sock}"),
		"rsa.pem":     testKey(t, "rsa-public.pem"), "rsa.key": testKey(t, "rsa-pkcs8.pem"),
	})
	jwks := "http://" + p.addr + "/openid/v1/jwks"
	before := fetchBody(jwks)
	p.must("keys", "init", "--store", "two", "--issuer", "https://oidc.test", "--algorithm", "ES256")
	for _, tt := range []struct{ change, says string }{
		{"managed: {store: two, witnesses: [none], signerSocket: s.sock}", "the ring does not know key"},
		{"managed: {store: empty, create: true, witnesses: [none], signerSocket: s.sock}", "holds no ring"},
	} {
		p.write("config.yaml", entry(tt.change))
		p.eventually(tt.says, func() bool { return strings.Contains(p.readyz(), tt.says) })
		if got := fetchBody(jwks); got != before {
			t.Errorf("%s: the key set has changed to %s", tt.change, got)
		}
		if err := p.signsFor("s.sock", "https://oidc.test"); err != nil {
			t.Errorf("%s: %v", tt.change, err)
		}
	}
	if _, err := os.Stat(filepath.Join(p.dir, "empty")); !os.IsNotExist(err) {
		t.Errorf("a ring was made: %v", err)
	}

	// A mirrored key becomes a managed one if the ring has it.
	p.write("config.yaml", entry("files: {paths: [rsa.pem]}"))
	p.eventually("the file is shown", func() bool { return fetchBody(jwks) != before })
	p.eventually("what has gone is told", func() bool { return strings.Contains(p.output(), "keys are not published any more") })
	p.must("keys", "import", "rsa.key", "--store", "three", "--issuer", "https://oidc.test")
	p.write("config.yaml", entry("managed: {store: three, witnesses: [none]}"))
	p.eventually("both keys are shown", func() bool { return strings.Count(fetchBody(jwks), `"kid"`) == 2 })
	p.stop()
}

// What is kept of a source that cannot be heard takes the place of nothing that
// works.
func TestRecalledKeysReplaceNothing(t *testing.T) {
	t.Parallel()
	var keys atomic.Pointer[string]
	set := func(name string) {
		text := keySetOf(t, name)
		keys.Store(&text)
	}
	set("rsa-public.pem")
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/jwks" {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, *keys.Load())
	}))
	defer s.Close()
	s.Config.ErrorLog = nil
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	entry := func(more string) string { return "issuers:\n- {issuer: 'https://oidc.test', " + more + "}\n" }
	url := func(path string) string {
		return fmt.Sprintf("url: {jwks: %q, caFile: ca.pem, interval: 200ms}", s.URL+path)
	}
	p := configured(t, map[string]string{"config.yaml": entry(url("/jwks")), "ca.pem": ca, "ec.pem": testKey(t, "ec-prime256v1-public.pem")})
	jwks := "http://" + p.addr + "/openid/v1/jwks"
	shows := func(what, alg string) {
		t.Helper()
		p.eventually(what, func() bool { return strings.Contains(fetchBody(jwks), alg) })
	}
	shows("the first", "RS256")

	// Another place that does not answer: the old one is followed on.
	p.write("config.yaml", entry(url("/nowhere")))
	p.eventually("it is told", func() bool { return strings.Contains(p.readyz(), "[!]change: keeping the previous configuration") })
	set("ec-secp384r1-public.pem")
	shows("the old source is followed", "ES384")

	// Files, and then what was kept of the URL.
	p.write("config.yaml", entry("files: {paths: [ec.pem]}"))
	shows("the file", "ES256")
	p.write("config.yaml", entry(url("/nowhere")))
	p.eventually("it is told", func() bool { return strings.Contains(p.readyz(), "[!]change: keeping the previous configuration") })
	time.Sleep(500 * time.Millisecond)
	shows("the file goes on", "ES256")
	p.write("config.yaml", entry(url("/jwks")))
	shows("once it is heard", "ES384")
	p.stop()
}

// keySetOf is the JWKS with the key of a file.
func keySetOf(t *testing.T, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	p := &process{t: t, dir: t.TempDir()}
	p.write("k.pem", testKey(t, name))
	p.write("config.yaml", "issuers:\n- {issuer: 'https://oidc.test', files: {paths: [k.pem]}}\n")
	p.must("export", "--out", out, "--config", "config.yaml")
	data, err := os.ReadFile(filepath.Join(out, "oidc.test/openid/v1/jwks"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A change that is taken back while it comes about leaves nothing behind: the
// socket answers for the ring as it is kept now.
func TestChangeTakenBack(t *testing.T) {
	t.Parallel()
	entry := func(hint int) string {
		return "issuers:\n" + managedEntry("a", fmt.Sprintf("signerSocket: a.sock, refreshHint: %ds", hint))
	}
	p := configured(t, map[string]string{"config.yaml": entry(60)})
	p.signs("a.sock", "https://oidc.test/a")
	conn, err := grpc.NewClient("unix:"+filepath.Join(p.dir, "a.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hint := func() int64 {
		keys, err := externaljwt.NewExternalJWTSignerClient(conn).FetchKeys(t.Context(), &externaljwt.FetchKeysRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return keys.GetRefreshHintSeconds()
	}
	change := func(to int) {
		p.write("config.yaml", entry(to))
		p.cmd.Process.Signal(syscall.SIGHUP)
	}
	for n := range 60 {
		change(30)
		time.Sleep(time.Duration(n) * 60 * time.Microsecond)
		change(60)
		time.Sleep(100 * time.Millisecond)
		if got := hint(); got != 60 {
			p.eventually("the hint is the configured one", func() bool { return hint() == 60 })
		}
	}
	p.stop()
}

// An old backup is told as such across a change of the configuration too.
func TestChangeRemembersTheRing(t *testing.T) {
	t.Parallel()
	p := configured(t, map[string]string{"config.yaml": "issuers:\n" + managedEntry("a", "refreshHint: 60s")})
	jwks := "http://" + p.addr + "/a/openid/v1/jwks"
	ring := filepath.Join(p.dir, "ring-a", "ring.json")
	kid := regexp.MustCompile(`"kid":"([^"]*)"`).FindStringSubmatch(fetchBody(jwks))[1]
	p.must("keys", "rotate", "--force", "--store", "ring-a")
	p.eventually("there are three keys", func() bool { return strings.Count(fetchBody(jwks), `"kid"`) == 3 })
	p.eventually("the next one is planned", func() bool { return !strings.Contains(p.readyz(), "[!]") })
	backup, err := os.ReadFile(ring)
	if err != nil {
		t.Fatal(err)
	}
	p.must("keys", "revoke", kid, "--store", "ring-a")
	p.eventually("it is revoked", func() bool { return !strings.Contains(fetchBody(jwks), kid) })
	if err := os.WriteFile(ring, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	p.eventually("it is refused", func() bool { return strings.Contains(p.readyz(), "went back in time") })
	p.write("config.yaml", "issuers:\n"+managedEntry("a", "refreshHint: 30s"))
	again := regexp.MustCompile(`(?m)^\[!\]change: .*went back in time`)
	p.eventually("it is refused again", func() bool { return again.MatchString(p.readyz()) })
	if strings.Contains(fetchBody(jwks), kid) {
		t.Error("a revoked key has come back")
	}
	p.stop()
}

// An identity that was wrong is read again once it is mended.
func TestMendedIdentity(t *testing.T) {
	t.Parallel()
	right, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	p := configured(t, map[string]string{"config.yaml": "issuers:\n" + managedEntry("a", ""), "id.txt": wrong.String(), "right.txt": right.String()})
	p.must("keys", "init", "--store", "sealed", "--issuer", "https://oidc.test/b", "--recipient", right.Recipient().String(), "--age-identity", "right.txt")
	p.write("config.yaml", "issuers:\n"+managedEntry("a", "")+"- {issuer: 'https://oidc.test/b', managed: {store: sealed, witnesses: [none], ageIdentities: [id.txt]}}\n")
	p.eventually("it is told", func() bool { return strings.Contains(p.readyz(), "are not writers of it") })
	p.write("id.txt", right.String())
	p.eventually("it is served", func() bool { return get("http://"+p.addr+"/b/openid/v1/jwks") == http.StatusOK })
	p.stop()
}
