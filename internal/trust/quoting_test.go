package trust_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template/parse"

	"oidc-provider/discovery"
	"oidc-provider/internal/trust"
	"oidc-provider/jwks"
)

// ways are the functions of templates that make a value safe.
var ways = []string{"sh", "quoted", "json", "hcl", "part", "yaml", "lines", "go", "comment", "name"}

// Every value that a template prints goes through one of them last.
func TestTemplatesQuote(t *testing.T) {
	values := 0
	var look func(file string, n parse.Node)
	list := func(file string, l *parse.ListNode) {
		if l != nil {
			for _, n := range l.Nodes {
				look(file, n)
			}
		}
	}
	look = func(file string, n parse.Node) {
		switch n := n.(type) {
		case *parse.IfNode:
			list(file, n.List)
			list(file, n.ElseList)
		case *parse.RangeNode:
			list(file, n.List)
			list(file, n.ElseList)
		case *parse.WithNode:
			list(file, n.List)
			list(file, n.ElseList)
		case *parse.ListNode:
			list(file, n)
		case *parse.ActionNode:
			values++
			last := n.Pipe.Cmds[len(n.Pipe.Cmds)-1].Args[0]
			way, ok := last.(*parse.IdentifierNode)
			if n.String() == "{{.ShellPolicy}}" { // which quotes all but one variable
				return
			}
			if !ok || !slices.Contains(ways, way.Ident) {
				t.Errorf("%s: %s is printed as it is", file, n)
			}
		}
	}
	err := filepath.WalkDir("templates", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		tree := parse.New(path)
		tree.Mode = parse.SkipFuncCheck
		trees := make(map[string]*parse.Tree)
		if _, err := tree.Parse(string(data), "", "", trees); err != nil {
			return err
		}
		for _, tree := range trees {
			list(path, tree.Root)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if values < 100 {
		t.Errorf("only %d values in the templates", values)
	}
}

// A hostile one is what somebody might type, or publish as a kid.
type hostile struct{ path, audience, prefix, kid string }

var hostiles = []hostile{
	{"/$(touch${IFS}pwned)", "a$(touch$IFS$9pwned)", "$(touch${IFS}pwned)", "$(touch pwned)"},
	{"/`touch${IFS}pwned`", "a;touch$IFS'pwned'", "`touch${IFS}pwned`", "`touch pwned`\nEOF\ntouch pwned\n"},
	{`/'";touch${IFS}pwned;"'`, `a';touch$IFS$9pwned;'`, `";touch${IFS}pwned;"`, `'; touch pwned; '`},
	{`/\";touch${IFS}pwned;\"`, `a&touch$IFS$9pwned&`, `\`, "\\\nEOF\n\x00touch pwned"},
	{`/${file("main.tf")}%25{if}`, "a%25$", "%{if true}", `${file("/etc/passwd")}%{ for a in b }`},
	{`/"Federated":"*"`, "a:#", "#: &a *b !!c", "\": {}\n- x: y"},
	{"/{{.}}/EOF", "true", "null", "{{.Issuer}}"},
	{"/a:b", "0x10", "- ", "!!binary x"},
	{"/a%25", "a:b", ">-", "---\n"},
}

func TestHostile(t *testing.T) {
	for _, h := range hostiles {
		if !attack(t, h) {
			t.Errorf("%q was not printed at all", h)
		}
	}
}

func FuzzQuoting(f *testing.F) {
	for _, h := range hostiles {
		f.Add(h.path, h.audience, h.prefix, h.kid)
	}
	f.Fuzz(func(t *testing.T, path, audience, prefix, kid string) {
		attack(t, hostile{path, audience, prefix, kid})
	})
}

// attack prints everything of h that can be printed, and has it read. What
// comes out must be the values as they were, and nothing else must happen.
func attack(t *testing.T, h hostile) (printed bool) {
	t.Helper()
	issuer, err := discovery.ParseIssuer("https://a.test" + h.path)
	if err != nil {
		return false
	}
	f := facts(t, "https://a.test")
	f.Issuer, f.Audience, f.Keys = issuer, h.audience, withKID(t, f.Keys, h.kid)
	f.JWKSURI = issuer.JWKSURI()
	for _, s := range []trust.Setup{
		&trust.AWS{Facts: f, Account: "123456789012"}, &trust.GCP{Facts: f, KeysFrom: trust.KeysCopy, ProjectNumber: "123456789012"},
		&trust.Azure{Facts: f, ResourceGroup: "a(b)", ClientID: "11111111-2222-3333-4444-555555555555", TenantID: "11111111-2222-3333-4444-555555555555"},
		&trust.Azure{Facts: f, Application: "11111111-2222-3333-4444-555555555555"},
		&trust.Vault{Facts: f, Address: "https://vault.test"}, &trust.Vault{Facts: f, KeysFrom: trust.KeysJWKS}, &trust.Vault{Facts: f, KeysFrom: trust.KeysCopy},
		&trust.Kubernetes{Facts: f, Prefix: h.prefix, Server: "https://b.test"}, &trust.Kubernetes{Facts: f}, &trust.Generic{Facts: f},
	} {
		for _, format := range s.Target().Formats {
			text, err := trust.Render(s, format)
			if err != nil {
				continue
			}
			printed = true
			values := examine(t, format, string(text))
			if format == "cli" {
				values = scriptValues(t, string(text))
			}
			if format != "pod" && format != "text" && !slices.Contains(values, issuer.String()) {
				t.Errorf("%s.%s: the issuer %q is not in it any more:\n%s", s.Target().Name, format, issuer, text)
			}
		}
	}
	return printed
}

// withKID gives the first key another kid, if a set with it can be read.
func withKID(t *testing.T, keys []jwks.PublicKey, kid string) []jwks.PublicKey {
	t.Helper()
	data, err := jwks.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(kid)
	if err != nil {
		t.Fatal(err)
	}
	old, _ := json.Marshal(keys[0].KeyID())
	changed, err := jwks.Parse([]byte(strings.Replace(string(data), string(old), string(quoted), 1)))
	if err != nil {
		return keys
	}
	return changed
}

// scriptValues runs a script whose tools do nothing but note what they are
// given: words, and the strings of JSON in them.
func scriptValues(t *testing.T, text string) (values []string) {
	t.Helper()
	dir := t.TempDir()
	tools := `note() { printf '%s\0' "$@" >>noted; if [ "${!#}" = - ]; then { cat; printf '\0'; } >>noted; fi; return "$code"; }
aws() { code=0; case $* in *caller*) echo arn:aws:iam::123456789012:user/a;; *get-*) code=1;; esac; note "$@"; }
gcloud() { code=0; case $* in *projects*describe*) echo 123456789012;; *describe*) code=1;; esac; note "${@#--issuer-uri=}"; }
az() { code=0; case $* in *show*) code=1;; esac; note "$@"; }
vault() { code=0; case $* in *read*) code=1; echo "No value found";; esac; note "$@"; }
`
	cmd := exec.Command("bash", "-c", tools+text)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir}
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(text, "az ") { // whose last questions are not answered
		t.Errorf("%v: %s\n%s", err, out, text)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("it leaves %v: %s\n%s", entries, out, text)
	}
	noted, err := os.ReadFile(filepath.Join(dir, "noted"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Split(string(noted), "\x00") {
		values = append(values, word)
		var object map[string]any
		if json.Unmarshal([]byte(word), &object) == nil {
			for _, v := range object {
				if s, ok := v.(string); ok {
					values = append(values, s)
				}
			}
		}
	}
	return values
}
