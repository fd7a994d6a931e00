package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	externaljwt "k8s.io/externaljwt/apis/v1"

	"oidc-provider/jwks"
)

// configured starts a server with a configuration file, whose address lines it
// adds, and waits until it is ready.
func configured(t testing.TB, files map[string]string) *process {
	t.Helper()
	p := newProcess(t)
	for name, text := range files {
		p.write(name, text)
	}
	p.run("serve", "--config", "config.yaml")
	return p
}

// write puts a file into p's directory in one step.
func (p *process) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if name == "config.yaml" {
		text = fmt.Sprintf("listen: %s\nadminListen: %s\nshutdownDelay: 0s\n", p.addr, p.adminAddr) + text
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		p.t.Fatal(err)
	}
}

func testKey(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../testdata/keys/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// pair are the two documents of an issuer, fetched one after the other.
type pair struct {
	issuer     string
	algorithms []string // that the discovery document advertises
	keys       []string // the algorithms of the key set
}

func fetchPair(client *http.Client, base string) (p pair, err error) {
	type metadata struct {
		Issuer     string   `json:"issuer"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	fetch := func(path string, into any) error {
		resp, err := client.Get(base + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", path, resp.Status)
		}
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		return json.Unmarshal(data, into)
	}
	var m metadata
	var set jose.JSONWebKeySet
	for _, err := range []error{
		fetch("/.well-known/openid-configuration", &m), fetch("/openid/v1/jwks", &set),
	} {
		if err != nil {
			return p, err
		}
	}
	p = pair{issuer: m.Issuer, algorithms: m.Algorithms}
	for _, k := range set.Keys {
		p.keys = append(p.keys, k.Algorithm)
	}
	slices.Sort(p.keys)
	p.keys = slices.Compact(p.keys)
	return p, nil
}

// TestReloadUnderLoad changes everything about the issuers while relying parties
// ask for them: no request fails, and the two documents always fit together.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	stable := "issuers:\n- {issuer: 'https://oidc.test/stable', files: {paths: [rsa.pem]}}\n"
	changing := func(files string) string {
		return stable + "- {issuer: 'https://oidc.test/changing', " + files + "}\n"
	}
	p := configured(t, map[string]string{
		"config.yaml": changing("files: {paths: [rsa.pem]}"),
		"rsa.pem":     testKey(t, "rsa-public.pem"),
		"ec.pem":      testKey(t, "ec-prime256v1-public.pem"),
		"both.pem":    testKey(t, "rsa-public.pem") + testKey(t, "ec-prime256v1-public.pem"),
		"ec.key":      testKey(t, "ec-prime256v1.pem"),
	})
	p.must("keys", "import", "ec.key", "--store", "ring", "--issuer", "https://oidc.test/changing", "--algorithm", "ES384")
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	var whole atomic.Int64
	seen := sync.Map{}
	for n := range 8 {
		readers.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: n%4 == 3}, Timeout: patience}
			defer client.CloseIdleConnections()
			for i := 0; ctx.Err() == nil; i++ {
				name := []string{"stable", "changing"}[i%2]
				pair, err := fetchPair(client, "http://"+p.addr+"/"+name)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				if pair.issuer != "https://oidc.test/"+name || len(pair.keys) == 0 || !slices.Equal(pair.algorithms, jwks.AlgorithmNames()) {
					t.Errorf("%s: a wrong pair %+v", name, pair)
					return
				}
				whole.Add(1)
				seen.Store(name+strings.Join(pair.keys, ","), true)
			}
		})
	}
	shows := func(want string) {
		p.eventually(want+" is shown", func() bool { _, ok := seen.Load(want); return ok || t.Failed() })
	}
	shows("changingRS256")
	for _, change := range []struct{ config, shows string }{
		{changing("files: {paths: [ec.pem]}"), "changingES256"},
		{changing("managed: {store: ring, witnesses: [none]}"), "changingES256,ES384"},
		{changing("files: {paths: [both.pem]}, jwksMaxAge: 1m"), "changingES256,RS256"},
		{changing("files: {paths: [rsa.pem]}") + "- {issuer: 'https://oidc.test/more', files: {paths: [ec.pem]}}\n", "changingRS256"},
	} {
		seen.Delete(change.shows)
		p.write("config.yaml", change.config)
		shows(change.shows)
	}
	// SIGHUP again and again, while the file changes as fast as it can.
	for n := range 40 {
		p.write("config.yaml", changing([]string{"files: {paths: [ec.pem]}", "files: {paths: [rsa.pem]}"}[n%2]))
		p.cmd.Process.Signal(syscall.SIGHUP)
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	readers.Wait()
	t.Logf("%d whole pairs", whole.Load())
	p.mustAnswerAdmin()
	p.stop()
}

func (p *process) mustAnswerAdmin() {
	p.t.Helper()
	if code := get("http://" + p.adminAddr + "/readyz"); code != http.StatusOK {
		p.t.Errorf("/readyz answers %d\n%s", code, p.output())
	}
}

func (p *process) readyz() string { return fetchBody("http://" + p.adminAddr + "/readyz?verbose") }

// A configuration that cannot be used changes nothing, and is told; one whose
// issuer has nothing to show yet leaves the old documents in place.
func TestBrokenConfigurationKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	good := "issuers:\n- {issuer: 'https://oidc.test', files: {paths: [a.pem]}}\n"
	p := configured(t, map[string]string{"config.yaml": good, "a.pem": testKey(t, "rsa-public.pem")})
	jwks := "http://" + p.addr + "/openid/v1/jwks"
	before := fetchBody(jwks)
	says := func(what string) {
		t.Helper()
		p.eventually(what, func() bool { return strings.Contains(p.readyz(), what) })
		if got := fetchBody(jwks); got != before {
			t.Errorf("%s: the documents have changed:\n%s", what, got)
		}
	}
	p.write("config.yaml", "issuers:\n- {issuer: 'https://oidc.test', flies: {}}\n")
	says("[!]configuration: config.yaml:5: issuers[0].flies: unknown field (hint: did you mean files?)")
	p.write("config.yaml", "issuers: []\n")
	says("issuers: none, and no issuersDir")
	if err := os.Remove(filepath.Join(p.dir, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	says("no such file")
	p.write("config.yaml", good)
	says("[+]configuration ok")

	p.write("config.yaml", good+"readiness: all\nstateDir: elsewhere\n")
	says("a change of readiness, stateDir needs a restart")
	p.write("config.yaml", strings.Replace(good, "a.pem", "missing.pem", 1))
	says("[!]change: keeping the previous configuration, since the new one has nothing to publish")
	p.write("config.yaml", strings.Replace(good, "files: {paths: [a.pem]}", "managed: {store: empty}", 1))
	says("holds no ring")
	p.write("config.yaml", good)
	p.eventually("all is well again", func() bool { return !strings.Contains(p.readyz(), "[!]") })
	p.mustAnswerAdmin()
	p.stop()
	if n := strings.Count(p.output(), "level=ERROR"); n > 8 {
		t.Errorf("%d errors are logged\n%s", n, p.output())
	}
}

// TestReloadKeepsTheSignerSocket has tokens signed while everything about an
// issuer changes but its socket: on one connection, without a failure.
func TestReloadKeepsTheSignerSocket(t *testing.T) {
	t.Parallel()
	issuer := func(more string) string {
		return "issuers:\n- issuer: https://oidc.test\n  managed: {store: ring, create: true, witnesses: [none], signerSocket: s.sock, " + more + "}\n"
	}
	p := configured(t, map[string]string{"config.yaml": issuer("policy: {algorithm: ES256, maxTokenLifetime: 1h}")})
	conn, err := grpc.NewClient("unix:"+filepath.Join(p.dir, "s.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := externaljwt.NewExternalJWTSignerClient(conn)
	claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iss":"https://oidc.test","exp":%d}`, time.Now().Add(30*time.Minute).Unix()))
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	var signed atomic.Int64
	for range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if _, err := client.Sign(t.Context(), &externaljwt.SignJWTRequest{Claims: claims}); err != nil {
					t.Errorf("Sign: %v", err)
					return
				}
				signed.Add(1)
			}
		})
	}
	lifetime := func() int64 {
		m, err := client.Metadata(t.Context(), &externaljwt.MetadataRequest{})
		if err != nil {
			t.Error(err)
			return 0
		}
		return m.GetMaxTokenExpirationSeconds()
	}
	for _, hours := range []int64{2, 3, 4} {
		p.write("config.yaml", issuer(fmt.Sprintf("refreshHint: %ds, policy: {maxTokenLifetime: %dh}", hours, hours)))
		p.eventually("the new policy is in force", func() bool { return lifetime() == 3600*hours || t.Failed() })
		p.eventually("the new hint is given", func() bool {
			keys, err := client.FetchKeys(t.Context(), &externaljwt.FetchKeysRequest{})
			return err == nil && keys.GetRefreshHintSeconds() == hours
		})
	}
	stop()
	callers.Wait()
	t.Logf("%d tokens", signed.Load())
	if metrics := fetchBody("http://" + p.adminAddr + "/metrics"); !strings.Contains(metrics, `grpc_server_handled_total{grpc_code="OK",grpc_method="Sign",grpc_service="v1.ExternalJWTSigner",grpc_type="unary",issuer="https://oidc.test"}`) {
		t.Errorf("the calls are not counted:\n%s", metrics)
	}

	// The socket goes with its issuer, and comes back with it.
	p.write("config.yaml", "issuers:\n- {issuer: 'https://other.test', managed: {store: other, create: true, witnesses: [none]}}\n")
	p.eventually("the socket is closed", func() bool { _, err := os.Stat(filepath.Join(p.dir, "s.sock")); return os.IsNotExist(err) })
	p.write("config.yaml", issuer(""))
	p.eventually("the socket is open again", func() bool {
		_, err := client.Sign(t.Context(), &externaljwt.SignJWTRequest{Claims: claims})
		return err == nil
	})
	p.stop()
}
