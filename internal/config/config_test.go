package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"

	"oidc-provider/internal/config"
	"oidc-provider/internal/hint"
)

func parse(text string) (*config.Config, error) {
	return config.Parse("/etc/x/config.yaml", []byte(text))
}

func TestDefaults(t *testing.T) {
	c, err := parse("issuers: [{issuer: 'https://a.test', files: {paths: [a.pem, /b/*.pem]}}]")
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{
		Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:8081", Readiness: "any",
		JWKSMaxAge: config.Duration(5 * time.Minute), DiscoveryMaxAge: config.Duration(time.Hour),
		ShutdownDelay: config.Duration(3 * time.Second), StateDir: "/etc/x/oidc-provider-state",
		Issuers: []config.Issuer{{
			Issuer:     "https://a.test",
			JWKSMaxAge: config.Duration(5 * time.Minute), DiscoveryMaxAge: config.Duration(time.Hour),
			Files: &config.Files{Paths: []string{"/etc/x/a.pem", "/b/*.pem"}, Interval: config.Duration(time.Second)},
		}},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEmptyDocuments(t *testing.T) {
	if _, err := parse("---\n---\nissuersDir: d\n---\n"); err != nil {
		t.Error(err)
	}
}

func TestNoShutdownDelay(t *testing.T) {
	if c, err := parse("shutdownDelay: 0s\nissuersDir: d"); err != nil || c.ShutdownDelay != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// What is set in an issuer wins over what is set for all.
func TestIssuersInherit(t *testing.T) {
	c, err := parse(`
jwksMaxAge: 1m
issuers:
- {issuer: "https://a.test", url: {jwks: "https://b.test/jwks"}}
- {issuer: "https://c.test", jwksMaxAge: 2m, apiserver: {interval: 30s}}
`)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute} {
		if got := time.Duration(c.Issuers[i].JWKSMaxAge); got != want {
			t.Errorf("issuer %d: jwksMaxAge %v, want %v", i, got, want)
		}
	}
}

// Names of files are relative to the file that they stand in; names of other
// things are left alone.
func TestFileNames(t *testing.T) {
	c, err := parse(`
tls: {acme: {storage: s, caFile: ca.pem}}
issuersDir: d
issuers:
- issuer: https://a.test
  managed:
    store: keys
    signerSocket: a.sock
    etcd: {caFile: ca, certFile: cert, keyFile: key, user: u, passwordFile: p}
    kubeconfig: k
    ageIdentities: [i]
    kmsSocket: kms.sock
    witnessCAFile: pca
    rollbackState: r
- {issuer: "https://b.test", managed: {store: "etcd://h/p", signerSocket: "@b"}}
- {issuer: "https://c.test", apiserver: {kubeconfig: k}}
- {issuer: "https://d.test", url: {jwks: "https://e.test/jwks", caFile: /abs}}
`)
	if err != nil {
		t.Fatal(err)
	}
	m, at := c.Issuers[0].Managed, func(name string) string { return "/etc/x/" + name }
	for _, tt := range []struct{ got, want string }{
		{c.TLS.ACME.Storage, at("s")}, {c.TLS.ACME.CAFile, at("ca.pem")}, {c.IssuersDir, at("d")},
		{m.SignerSocket, at("a.sock")}, {m.Etcd.CAFile, at("ca")}, {m.Etcd.CertFile, at("cert")}, {m.Etcd.KeyFile, at("key")},
		{m.Etcd.PasswordFile, at("p")}, {m.Etcd.User, "u"}, {m.Kubeconfig, at("k")}, {m.AgeIdentities[0], at("i")},
		{m.KMSSocket, at("kms.sock")}, {m.WitnessCAFile, at("pca")}, {m.RollbackState, at("r")},
		{m.Store, at("keys")}, {c.Issuers[1].Managed.Store, "etcd://h/p"},
		{c.Issuers[1].Managed.SignerSocket, "@b"},
		{c.Issuers[2].APIServer.Kubeconfig, at("k")}, {c.Issuers[3].URL.CAFile, "/abs"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

// Each problem is told with its line, and all of them at once.
func TestProblems(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", `/etc/x/config.yaml: 0 YAML documents`},
		{"a: 1\n---\nb: 2\n", `2 YAML documents`},
		{"\n\na: b: c", `line 3: mapping values`},
		{"listn: x", `:1: listn: unknown field \(hint: did you mean listen\?\)$`},
		{"issuers:\n- issuer: https://a.test\n  manged: {}\n", `:3: issuers\[0\].manged: unknown field \(hint: did you mean managed\?\)$`},
		{"xyzzy: 1", `:1: xyzzy: unknown field \(hint: there are listen, adminListen, `},
		{"JWKSmaxage: 5m", `did you mean jwksMaxAge\?`},
		{"listen: a\nlisten: b", `:2: mapping key "listen" already defined`},
		{"listen: [a]", `:1: cannot unmarshal`},
		{"jwksMaxAge: 300", `:1: jwksMaxAge: "300": not a duration like 24h or 90s`},
		{"tls: yes", `:1: tls: want fields, like certFile: …`},
		{"tls:\nissuersDir: d", `:1: tls: it is empty \(hint: leave it out, fill it, or write {} for all defaults\)`},
		{"issuers:\n- issuer: https://a.test\n  apiserver:\n", `:3: issuers\[0\].apiserver: it is empty`},
		{"issuers:\n- issuer: https://a.test\n  managed: {store: x, policy: &p {schedule: '@weekly'}, etcd: *p}", `:3: issuers\[0\].managed.etcd.schedule: unknown field`},
		{"issuers:\n- {issuer: 'https://a.test', managed: {store: s}}\n- {issuer: 'https://b.test', managed: {store: s}}", `:3: issuers\[1\]: store /etc/x/s already belongs to issuer https://a.test`},
		{"issuers: {}", `:1: issuers: want a list`},
		{"issuers: [x]", `:1: issuers\[0\]: want fields, like issuer: …`},
		{"listen: ':8080'", `:1: issuers: none, and no issuersDir`},
		{"listen: 8080\nissuersDir: d", `:1: listen: "8080" is not an address`},
		{"readiness: most\nissuersDir: d", `:1: readiness: "most" \(hint: any or all\)`},
		{"jwksMaxAge: 0s\nissuersDir: d", `:1: jwksMaxAge: "0s": must be more than 0 \(hint: leave it out`},
		{"jwksMaxAge: 10ms\nissuersDir: d", `:1: jwksMaxAge: 10ms: must be at least 1s`},
		{"shutdownDelay: -1s\nissuersDir: d", `must not be negative`},
		{"tls: {certFile: x}\nissuersDir: d", `:1: tls: want both certFile and keyFile, or acme`},
		{"tls: {certFile: x, keyFile: y, acme: {}}\nissuersDir: d", `exclude each other`},
		{"tls: {acme: {challenges: [dns-01]}}\nissuersDir: d", `"dns-01" \(hint: tls-alpn-01 or http-01\)`},
		{"tls: {acme: {httpListen: ':80'}}\nissuersDir: d", `is for the challenge http-01`},
		{"tls: {acme: {checkInterval: 1ms}}\nissuersDir: d", `at least 1s`},
		{"issuers: [{files: {paths: [a]}}]", `:1: issuers\[0\].issuer: issuer "": empty`},
		{"issuers:\n- issuer: https://a.test?x\n  apiserver: {}", `:2: issuers\[0\].issuer: .*query and fragment`},
		{"issuers:\n- issuer: https://a.test", `:2: issuers\[0\]: has 0 sources of keys`},
		{"issuers:\n- issuer: https://a.test\n  apiserver: {}\n  url: {jwks: 'https://b.test'}", `:2: issuers\[0\]: has 2 sources`},
		{"issuers:\n- issuer: https://a.test\n  managed: {}", `:3: issuers\[0\].managed.store: must be set`},
		{"issuers:\n- issuer: https://a.test\n  managed:\n    store: x\n    policy: {schedule: never}", `:5: issuers\[0\].managed.policy: schedule "never"`},
		{"issuers:\n- issuer: https://a.test\n  managed: {store: x, publishOnly: true, signerSocket: y}", `signerSocket: excludes publishOnly`},
		{"issuers:\n- issuer: https://a.test\n  managed: {store: x, publishOnly: true, policy: {rsaBits: 3072}}", `policy: is set by servers that rotate`},
		{"issuers:\n- issuer: https://a.test\n  managed: {store: x, publishOnly: true, create: true}", `create: excludes publishOnly`},
		{"issuers:\n- issuer: https://a.test\n  files: {paths: []}", `:3: issuers\[0\].files.paths: .*hint`},
		{"issuers:\n- issuer: https://a.test\n  files: {paths: ['[']}", `is not a valid pattern`},
		{"issuers:\n- issuer: https://a.test\n  url: {jwks: 'http://b.test'}", `:3: issuers\[0\].url.jwks: .*https`},
		{"issuers:\n- issuer: https://a.test\n  apiserver: {interval: 1ms}", `issuers\[0\].apiserver.interval: 1ms: want 100ms to 24h`},
		{"issuers:\n- {issuer: 'https://a.test/x', apiserver: {}}\n- {issuer: 'https://A.test:8443/x/', apiserver: {}}", `:3: issuers\[1\]: issuer https://A.test:8443/x/ is served at the same host and path as https://a.test/x`},
		{"issuers:\n- {issuer: 'https://a.test', managed: {store: a, signerSocket: s}}\n- {issuer: 'https://b.test', managed: {store: b, signerSocket: s}}", `:3: issuers\[1\]: signerSocket /etc/x/s already belongs to issuer https://a.test`},
		{"listn: x\nissuers:\n- isuer: x", `(?s):1: listn.*\n.*:3: issuers\[0\].isuer`},
	} {
		_, err := parse(tt.text)
		if err == nil || !regexp.MustCompile("(?m)"+tt.want).MatchString(hint.Text(err, hint.Field)) {
			t.Errorf("%q: error\n%v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestMergeKeysAndAnchors(t *testing.T) {
	c, err := parse(`
issuers:
- issuer: https://a.test
  managed: &m {store: "etcd://h/a", policy: &p {schedule: "@weekly"}}
- issuer: https://b.test
  managed: {<<: *m, store: "etcd://h/b"}
`)
	if err != nil || c.Issuers[1].Managed.Policy.Schedule != "@weekly" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := parse("issuers:\n- issuer: https://a.test\n  managed: {<<: {stroe: x}, store: y}"); err == nil || !strings.Contains(hint.Text(err, hint.Field), "did you mean store") {
		t.Errorf("an unknown field in a merged mapping: %v", err)
	}
}

// The example has every field, and is what it says it is.
func TestExample(t *testing.T) {
	c, err := config.Parse("config.yaml", config.Example)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Issuers) != 4 {
		t.Errorf("%d issuers, want one of each kind", len(c.Issuers))
	}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name == "-" {
				continue
			}
			if f.Anonymous {
				visit(f.Type)
				continue
			}
			if !regexp.MustCompile(`(?m)^[ #-]*` + name + `:`).Match(config.Example) {
				t.Errorf("%s.%s is not in the example", typ.Name(), name)
			}
			visit(f.Type)
		}
	}
	visit(reflect.TypeFor[config.Config]())
	// What is commented out must make sense too.
	for _, part := range []string{"tls:\n  certFile", "tls:\n  acme", "issuersDir:"} {
		commented := "#" + strings.ReplaceAll(part, "\n", "\n#")
		at := strings.Index(string(config.Example), commented)
		if at < 0 {
			t.Fatalf("%q is not in the example", part)
		}
		block, _, _ := strings.Cut(string(config.Example[at:]), "\n\n")
		block, _, _ = strings.Cut(block, "\n# Or ")
		block = regexp.MustCompile(`(?m)^#( \n)?`).ReplaceAllString(block, "")
		if _, err := config.Parse("config.yaml", append([]byte(block+"\n"), config.Example...)); err != nil {
			t.Errorf("%s\n%v", block, err)
		}
	}
	whole := regexp.MustCompile(`(?m)^      #( *\w+:)`).ReplaceAll(config.Example, []byte("      $1"))
	whole = regexp.MustCompile(`(?m)^      #  `).ReplaceAll(whole, []byte("        "))
	if strings.Contains(string(whole), "#etcd") {
		t.Fatal("the comments were not taken away")
	}
	if _, err := config.Parse("config.yaml", whole); err != nil {
		t.Error(err)
	}
}

func TestSchema(t *testing.T) {
	for _, tt := range []struct {
		issuer bool
		text   string
		valid  bool
	}{
		{false, string(config.Example), true},
		{false, "listn: x", false},
		{false, "jwksMaxAge: 300", false},
		{false, "jwksMaxAge: 5 minutes", false},
		{false, "issuers: [{files: {paths: [x]}}]", false},
		{false, "issuers: [{issuer: x, files: {paths: x}}]", false},
		{true, "{issuer: x, managed: {store: y, policy: {rsaBits: 2048, clockSkew: 1h30m}}}", true},
		{true, "{issuer: x, managed: {store: y, policy: {rsaBits: many}}}", false},
	} {
		text, err := config.Schema(tt.issuer)
		if err != nil {
			t.Fatal(err)
		}
		var schema jsonschema.Schema
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		resolved, err := schema.Resolve(nil)
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := yaml.Unmarshal([]byte(tt.text), &value); err != nil {
			t.Fatal(err)
		}
		if err := resolved.Validate(value); (err == nil) != tt.valid {
			t.Errorf("%.60q: %v, want valid: %v", tt.text, err, tt.valid)
		}
		if strings.Contains(string(text), `"description": ""`) || !strings.Contains(string(text), "jwksMaxAge and discoveryMaxAge ") {
			t.Error("the schema does not explain every field")
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	if _, err := config.Load(path); err == nil || hint.Of(err) == "" {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(path, config.Example, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil || c.StateDir != filepath.Join(dir, "oidc-provider-state") {
		t.Errorf("%+v, %v", c, err)
	}
	if err := os.Truncate(path, 17<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a file that is too large: %v", err)
	}
}

// Whatever stands in a file, it is told or taken, and what is taken is whole.
func FuzzParse(f *testing.F) {
	f.Add(config.Example)
	f.Add([]byte("issuers: &a [*a]"))
	f.Add([]byte("issuers:\n- &a {<<: *a, issuer: x}"))
	f.Add([]byte("issuers:\n- &a {<<: [*a, *a], issuer: x}"))
	f.Add([]byte("<<: {listen: x}\nissuers: [{issuer: 'https://a.test', managed: {<<: [{store: x}]}}]"))
	f.Add([]byte("tls: {acme: ~}\nissuersDir: d"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("c.yaml", data)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		if c.Listen == "" || c.JWKSMaxAge == 0 {
			t.Errorf("%+v is not complete", c)
		}
	})
}

// A private key in place of a file name, or anywhere else, is refused and not
// echoed.
func TestSecretsInConfiguration(t *testing.T) {
	const secret = "AGE-SECRET-KEY-15FW6KV4YP0F96UW8SJXEVSTZXEK3JR54RHR6WZ5MLQZDXWJ75N9SZYPJJF"
	for _, tt := range []struct{ text, want string }{
		{"issuers:\n- {issuer: 'https://a.test', managed: {store: a, ageIdentities: [%s]}}", "issuers[0].managed.ageIdentities[0]: is a private key"},
		{"issuers:\n- {issuer: 'https://a.test', managed: {store: a, ageIdentities: [x, ./%s]}}", "ageIdentities[1]: is a private key"},
		{"issuers:\n- {issuer: 'https://a.test', managed: {store: %s}}", "managed.store: is a private key"},
		{"issuers:\n- {issuer: 'https://a.test', files: {paths: [%s]}}", "files.paths[0]: is a private key"},
		{"issuers:\n- {issuer: %s, files: {paths: [x]}}", "issuers[0].issuer: is a private key"},
		{"tls: {certFile: c, keyFile: \"-----BEGIN RSA PRIVATE KEY-----\\nX%s\"}\nissuersDir: d", "tls.keyFile: is a private key"},
		{"shutdownDelay: %s\nissuersDir: d", "shutdownDelay: is a private key"},
		{"anyHost: %s\nissuersDir: d", "anyHost: is a private key"},
		{"%s: x\nissuersDir: d", "the name of a field is a private key"},
		{"issuersDir: {%s: x}", ""},
		{"issuers: [*%s]", ""},
	} {
		_, err := config.Parse("config.yaml", fmt.Appendf(nil, tt.text, secret))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), secret[len(secret)-20:]) {
			t.Errorf("%s: got %v", tt.text, err)
		}
	}
}
