package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"oidc-provider/internal/seal"
)

// The program runs in the scripts as a process of its own: the test binary
// under another name.
// TestMain lets the tests, and the programs that they start, trust the clock unless
// they say otherwise: the kernel of a sandbox does not confirm it.
func TestMain(m *testing.M) {
	if _, set := os.LookupEnv("OIDC_PROVIDER_TRUST_CLOCK"); !set {
		os.Setenv("OIDC_PROVIDER_TRUST_CLOCK", "true")
	}
	testscript.Main(m, map[string]func(){
		"oidc-provider": main, "fetch": fetchMain, "compare": compareMain, "verify-file": verifyFileMain,
		"ask-signer": askSignerMain,
		"flood":      floodMain,
	})
}

func fetchBody(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// fetch URL [TEXT] prints what URL answers, or whether TEXT is in it.
func fetchMain() {
	body := fetchBody(os.Args[1])
	switch {
	case len(os.Args) < 3:
		fmt.Println(body)
	case strings.Contains(body, os.Args[2]):
		fmt.Println("present")
	default:
		fmt.Println("absent")
	}
}

// compare URL URL says whether both answer the same.
func compareMain() {
	if fetchBody(os.Args[1]) == fetchBody(os.Args[2]) {
		fmt.Println("same")
	}
}

// verify-file ISSUER FILE [CA] verifies the token in FILE.
func verifyFileMain() {
	token, err := os.Open(os.Args[2])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	args := []string{"verify", "--issuer", os.Args[1], "--audience", "demo"}
	if len(os.Args) > 3 {
		args = append(args, "--ca-file", os.Args[3])
	}
	os.Exit(run(context.Background(), args, token, os.Stdout, os.Stderr))
}

// TestScripts runs testdata/script. Beside testscript's own commands there are
//
//	http METHOD URL [HEADER: VALUE]...  prints status, sorted header and body
//	await URL                           waits until URL answers 200
//	retry TEXT COMMAND...               runs a command until its output has TEXT
//	status CODE COMMAND...              runs a command that ends with an exit status
//	certificate NAME [HOST]             makes NAME.crt and NAME.key for localhost, or HOST
//	template FILE                       puts the values of variables into FILE
//	sed FILE OLD NEW                    replaces OLD, which stands there, by NEW
//	mtimes DIR                          fails if a file has changed since the last time
//	identity NAME                       makes an age identity NAME.txt and sets $NAME to its recipient,
//	                                    and $NAME_WRITER to its ID as a writer
//	fetch, compare, verify-file         programs for retry: see below
//
// and $ADDR, $ADMIN (free addresses), $ADDR_IP and $ADMIN_IP (the same, without
// a name), $PORT (that of $ADDR), $KEYS (the shared test keys) and $CASES (files that
// an earlier version got wrong).
func TestScripts(t *testing.T) {
	keys, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"ADDR", "ADMIN", "ADDR2", "ADMIN2"} {
				addr, err := freeAddress()
				if err != nil {
					return err
				}
				env.Setenv(name, addr)
				env.Setenv(name+"_IP", strings.Replace(addr, "localhost", "127.0.0.1", 1))
			}
			env.Setenv("PORT", strings.TrimPrefix(env.Getenv("ADDR"), "localhost:"))
			env.Setenv("KEYS", keys+"/../../testdata/keys")
			env.Setenv("CASES", keys+"/../../testdata/cases")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"key": scriptKey, "status": scriptStatus, "http": scriptHTTP, "await": scriptAwait, "retry": scriptRetry, "certificate": scriptCertificate,
			"identity": scriptIdentity, "template": scriptTemplate, "sed": scriptSed, "mtimes": scriptMtimes,
		},
	})
}

// lastPort is the port of the last address that freeAddress has returned. Ports below
// 32768 are not those of outgoing connections, so that the many connections of another
// test do not take the port before the server has it.
var lastPort atomic.Int32

func init() { lastPort.Store(20000 + int32(os.Getpid()%8000)) }

// freeAddress returns an address that no other test gets.
func freeAddress() (string, error) {
	for {
		port := lastPort.Add(1)
		if port >= 32768 {
			return "", errors.New("no free port is left below 32768")
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue // another program has it
		}
		return fmt.Sprintf("localhost:%d", port), l.Close()
	}
}

func scriptHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: http METHOD URL [HEADER: VALUE]...")
	}
	req, err := http.NewRequest(args[0], args[1], nil)
	ts.Check(err)
	for _, h := range args[2:] {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	fmt.Fprintln(ts.Stdout(), resp.Status)
	var lines []string
	for name, values := range resp.Header {
		if name != "Date" {
			lines = append(lines, name+": "+strings.Join(values, ", "))
		}
	}
	slices.Sort(lines)
	fmt.Fprintln(ts.Stdout(), strings.Join(lines, "\n"))
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
}

// patience is how long a script waits for what must come.
const patience = 60 * time.Second

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await URL")
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(args[0])
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			ts.Fatalf("%s does not answer: %v", args[0], err)
		}
	}
}

func scriptRetry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: retry TEXT COMMAND...")
	}
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if strings.Contains(out, args[0]) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%v never printed %q: %v\n%s", args[1:], args[0], err, out)
		}
	}
}

func scriptKey(ts *testscript.TestScript, neg bool, args []string) {
	var ring struct{ Keys []struct{ KID, Phase string } }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &ring))
	for _, k := range ring.Keys {
		if k.Phase == args[0] {
			ts.Setenv("KID", k.KID)
			return
		}
	}
	ts.Fatalf("no key is %s", args[0])
}

func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v ended with %d, want %s\n%s%s", args[1:], code, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func scriptCertificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: certificate NAME [HOST]")
	}
	ts.Check(makeCertificate(ts.MkAbs(args[0]+".crt"), ts.MkAbs(args[0]+".key"), args[1:]...))
}

// makeCertificate writes a certificate for hosts, or else for localhost, which
// is its own CA, and its key.
func makeCertificate(certFile, keyFile string, hosts ...string) error {
	if len(hosts) == 0 {
		hosts = []string{"localhost"}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: filepath.Base(certFile)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: hosts, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

func scriptIdentity(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: identity NAME")
	}
	id, err := age.GenerateX25519Identity()
	ts.Check(err)
	file := ts.MkAbs(args[0] + ".txt")
	ts.Check(os.WriteFile(file, []byte(id.String()+"\n"), 0o600))
	ts.Setenv(strings.ToUpper(args[0]), id.Recipient().String())
	sealer, err := seal.New(seal.Config{IdentityFiles: []string{file}})
	ts.Check(err)
	keys, err := sealer.WriterKeys(context.Background(), nil)
	ts.Check(err)
	ts.Setenv(strings.ToUpper(args[0])+"_WRITER", keys[0].ID().String())
}

func scriptTemplate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: template FILE")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func scriptSed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: sed FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not stand in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o600))
}

func scriptMtimes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mtimes DIR")
	}
	var seen strings.Builder
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		fmt.Fprintln(&seen, path, info.ModTime().UnixNano(), info.Size())
		return err
	}))
	if before := ts.Getenv("MTIMES"); before != "" && before != seen.String() {
		ts.Fatalf("before:\n%s\nnow:\n%s", before, seen.String())
	}
	ts.Setenv("MTIMES", seen.String())
}

// Every command explains itself, with an example.
func TestHelp(t *testing.T) {
	var visit func(path []string)
	root := newRootCommand()
	visit = func(path []string) {
		var out, errOut strings.Builder
		if code := run(context.Background(), append(path, "--help"), strings.NewReader(""), &out, &errOut); code != 0 {
			t.Errorf("%v --help exits with %d: %s", path, code, errOut.String())
		}
		cmd, _, err := root.Find(path)
		if err != nil {
			t.Fatal(err)
		}
		if !cmd.HasSubCommands() && !strings.Contains(out.String(), "Examples:") {
			t.Errorf("%v --help shows no example", path)
		}
		for _, sub := range cmd.Commands() {
			visit(append(slices.Clone(path), sub.Name()))
		}
	}
	visit(nil)
}
