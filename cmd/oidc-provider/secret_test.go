package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	externaljwt "k8s.io/externaljwt/apis/v1"
)

// Nothing that a run on debug level prints, answers, logs or measures holds
// private key bytes, in whatever form: through rotations, revocation, imports,
// signing, refusals and a ring that cannot be read; nor does the store, if the
// keys are sealed.
func TestNoPrivateKeyEscapes(t *testing.T) {
	for _, name := range []string{"ES256", "RS256", "ES256 sealed", "RS256 sealed"} {
		t.Run(name, func(t *testing.T) {
			algorithm, _, sealed := strings.Cut(name, " ")
			policy := []string{"--algorithm", algorithm, "--schedule", "@every 1s", "--publish-ahead", "1s", "--clock-skew", "1s", "--max-token-lifetime", "10m"}
			field := "private"
			if sealed {
				field = "sealed"
				policy = append(policy, "--recipient", makeIdentity(t))
			}
			p := serve(t, policy, "--log-level", "debug", "--signer-socket", "s")
			secrets := make(map[string]string) // text to look for: what it is
			p.collectSecrets(secrets)
			for range 4 {
				p.everyRequest()
				time.Sleep(500 * time.Millisecond)
				p.collectSecrets(secrets)
			}
			p.everyCommand()
			p.collectSecrets(secrets)

			good, err := os.ReadFile(p.ring())
			if err != nil {
				t.Fatal(err)
			}
			if sealed {
				p.Write(good)
			}
			for _, bad := range []string{string(good[:len(good)*2/3]), strings.Replace(string(good), field, "x"+field, 1),
				strings.Replace(string(good), `"`+field+`": "`, `"`+field+`": "!`, 1)} {
				if err := os.WriteFile(p.ring(), []byte(bad), 0o600); err != nil {
					t.Fatal(err)
				}
				p.eventually("the failure is seen", func() bool {
					// The server may have been writing, and have replaced it.
					if now, err := os.ReadFile(p.ring()); err == nil && string(now) != bad {
						os.WriteFile(p.ring(), []byte(bad), 0o600)
					}
					return strings.Contains(p.body("http://"+p.adminAddr+"/readyz?verbose"), "left unchanged")
				})
				p.command("keys", "list", "--store", "keys").Run()
				p.everyRequest()
			}
			p.stop()

			out := p.output()
			if len(secrets) < 10 || !strings.Contains(out, "Rotated:") || !strings.Contains(out, "oidc_provider_keys") {
				t.Fatalf("the run shows too little: %d secrets, %d bytes of output\n%s", len(secrets), len(out), out)
			}
			for secret, what := range secrets {
				if strings.Contains(out, secret) {
					t.Errorf("%s escaped", what)
				}
			}
		})
	}
}

// makeIdentity lets every command have an age identity, and returns its
// recipient.
func makeIdentity(t testing.TB) string {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(path, []byte(id.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OIDC_PROVIDER_AGE_IDENTITY", path)
	return id.Recipient().String()
}

func openSealed(t testing.TB, sealed []byte) []byte {
	file, err := os.Open(os.Getenv("OIDC_PROVIDER_AGE_IDENTITY"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ids, err := age.ParseIdentities(file)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := age.Decrypt(bytes.NewReader(sealed), ids...)
	if err != nil {
		t.Fatal(err)
	}
	der, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// collectSecrets adds the forms of every private key that is in the ring now.
func (p *process) collectSecrets(secrets map[string]string) {
	p.t.Helper()
	data, err := os.ReadFile(p.ring())
	if err != nil {
		p.t.Fatal(err)
	}
	type document struct {
		Keys []struct {
			KeyID   string `json:"kid"`
			Private []byte `json:"private"`
			Sealed  []byte `json:"sealed"`
		} `json:"keys"`
	}
	var ring struct {
		document
		Signed *document `json:"ring"`
	}
	if err := json.Unmarshal(data, &ring); err != nil {
		p.t.Fatal(err)
	}
	if ring.Signed != nil {
		ring.document = *ring.Signed
	}
	for _, k := range ring.Keys {
		if len(k.Sealed) > 0 {
			k.Private = openSealed(p.t, k.Sealed)
		}
		if len(k.Private) == 0 {
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(k.Private)
		if err != nil {
			p.t.Fatal(err)
		}
		add := func(what string, number []byte) {
			what = k.KeyID + " " + what
			for offset := range 3 { // base64 depends on what stands before
				secrets[base64.StdEncoding.EncodeToString(number[offset:])[:20]] = what
				secrets[base64.URLEncoding.EncodeToString(number[offset:])[:20]] = what
			}
			secrets[hex.EncodeToString(number)[:30]] = what
			secrets[strings.ToUpper(hex.EncodeToString(number))[:30]] = what
			secrets[string(number[:12])] = what
			secrets[strings.Trim(fmt.Sprint(number[:10]), "[]")] = what
		}
		switch key := key.(type) {
		case *ecdsa.PrivateKey:
			d, err := key.Bytes()
			if err != nil {
				p.t.Fatal(err)
			}
			add("scalar", d)
		case *rsa.PrivateKey:
			add("exponent", key.D.Bytes())
			add("first prime", key.Primes[0].Bytes())
			add("second prime", key.Primes[1].Bytes())
			secrets[key.D.String()[:30]] = k.KeyID + " exponent in decimal"
		}
	}
}

func (p *process) body(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	fmt.Fprintf(p, "%s %v\n%s\n", resp.Status, resp.Header, data)
	return string(data)
}

// everyRequest asks for everything that can be asked for.
func (p *process) everyRequest() {
	for _, path := range []string{"/", "/.well-known/openid-configuration", "/openid/v1/jwks", "/nowhere", "/keys/ring.json", "/debug/pprof/heap"} {
		p.body(p.issuer + path)
	}
	for _, path := range []string{"/livez", "/readyz", "/readyz?verbose", "/metrics", "/debug/pprof/heap"} {
		p.body("http://" + p.adminAddr + path)
	}
	conn, err := grpc.NewClient("unix://"+filepath.Join(p.dir, "s"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client := externaljwt.NewExternalJWTSignerClient(conn)
	for _, claims := range []string{"", "x", `{"iss":"other"}`, fmt.Sprintf(`{"iss":%q,"exp":%d}`, p.issuer, time.Now().Add(time.Minute).Unix())} {
		resp, err := client.Sign(ctx, &externaljwt.SignJWTRequest{Claims: base64.RawURLEncoding.EncodeToString([]byte(claims))})
		fmt.Fprintln(p, resp, err)
	}
	keys, err := client.FetchKeys(ctx, &externaljwt.FetchKeysRequest{})
	fmt.Fprintln(p, keys, err)
}

// everyCommand runs what works on the store, with and without success.
func (p *process) everyCommand() {
	shared, err := filepath.Abs("../../testdata/keys")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, args := range [][]string{
		{"keys", "list"}, {"keys", "list", "-o", "json"}, {"keys", "rotate"}, {"keys", "rotate", "--force"}, {"keys", "rotate", "--force"},
		{"keys", "import", shared + "/rsa-public.pem"}, {"keys", "import", shared + "/ec-prime256v1.pem"}, {"keys", "import", "keys/ring.json"},
		{"keys", "revoke", "JvL9VBeh-uFhN5rvHhxuhbREw1XFUw2IhH26RaIQqjE"}, {"keys", "init", "--issuer", p.issuer},
		{"keys", "copies", "add", "google"}, {"keys", "copies"}, {"keys", "copies", "-o", "json"}, {"keys", "rotate"}, {"keys", "rotate", "--force"},
		{"keys", "copies", "confirm", "google", "--from", shared + "/rsa-pkcs1.pem"}, {"keys", "copies", "confirm", "google", "--from", "keys/ring.json"},
		{"keys", "copies", "confirm", "google"}, {"keys", "copies", "remove", "google"},
		{"token", "--audience", "demo"}, {"token", "--audience", "demo", "--duration", "9999h"},
	} {
		// Some of them fail, which is what is wanted of them.
		p.command(append(args, "--store", "keys")...).Run()
	}
}
