package trust_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"oidc-provider/trust"
)

// The tools that the scripts call are, in tests, this binary under their names.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"aws": stub, "gcloud": stub, "az": stub, "vault": stub})
}

// A call is one that a script has made.
type call struct {
	Args  []string
	Stdin string // of vault
	Keys  string // the file of gcloud's --jwk-json-path
}

// An answer is what a tool says to calls that have Has in them; without one, it
// fails if it was asked for something, and is silent otherwise.
type answer struct{ Has, Say string }

var asks = regexp.MustCompile(` (get-\S+|describe|show|read) `)

// stub records its call and answers.
func stub() {
	c := call{Args: append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)}
	line := strings.Join(c.Args, " ")
	if strings.HasSuffix(line, " -") {
		stdin, _ := io.ReadAll(os.Stdin)
		c.Stdin = string(stdin)
	}
	for _, arg := range os.Args[1:] {
		if path, ok := strings.CutPrefix(arg, "--jwk-json-path="); ok {
			keys, _ := os.ReadFile(path)
			c.Keys = string(keys)
			line = strings.ReplaceAll(line, path, "TEMPORARY")
		}
	}
	data, _ := json.Marshal(c)
	f, err := os.OpenFile(os.Getenv("STUB_CALLS"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(f, "%s\n", data)
	var answers []answer
	if err := json.Unmarshal([]byte(os.Getenv("STUB_ANSWERS")), &answers); err != nil {
		panic(err)
	}
	for _, a := range answers {
		if strings.Contains(line, a.Has) {
			fmt.Println(a.Say)
			return
		}
	}
	if asks.MatchString(line) {
		fmt.Fprintln(os.Stderr, "there is no such thing")
		os.Exit(1)
	}
}

// worlds are what the tools find: nothing the first time, then what the script
// has made, or what somebody else has.
func worlds(s trust.Setup) map[string][]answer {
	var who, ours, theirs []answer
	switch s := s.(type) {
	case *trust.AWS:
		who = []answer{{"sts get-caller-identity", "arn:aws:iam::123456789012:user/admin"}}
		ours = []answer{{"get-open-id-connect-provider", "{}"}, {"--query Role.Description", s.Description()}, {"get-role", "{}"}}
		theirs = []answer{{"--query Role.Description", "None"}, {"get-role", "{}"}}
	case *trust.GCP:
		who = []answer{{"config get-value project", "shop-prod"}, {"projects describe", "123456789012"}}
		ours = []answer{{"value(oidc.jwksJson)", ""}, {"providers describe", s.Issuer.String()}, {"pools describe", "{}"}}
		theirs = []answer{{"providers describe", "https://other.example.com"}, {"pools describe", "{}"}}
	case *trust.Azure:
		who = []answer{{"--query clientId", "11111111-2222-3333-4444-555555555555"}, {"enantId", "99999999-2222-3333-4444-555555555555"}}
		ours = []answer{{"identity show", "{}"}, {"federated-credential show", "{}"}}
	case *trust.Vault:
		ours = []answer{{"-field=bound_issuer", s.Issuer.String()}, {"sys/auth/", "{}"}}
		theirs = []answer{{"-field=bound_issuer", ""}, {"sys/auth/", "{}"}}
	}
	all := map[string][]answer{"first": who, "again": append(who[:len(who):len(who)], ours...)}
	if theirs != nil {
		all["taken"] = append(who[:len(who):len(who)], theirs...)
	}
	return all
}

// run runs a script the way that people do, through a pipe.
func run(t testing.TB, script string, answers []answer) (calls []call, output string, err error) {
	t.Helper()
	dir := t.TempDir()
	said, err := json.Marshal(answers)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash")
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "STUB_CALLS=" + dir + "/calls", "STUB_ANSWERS=" + string(said)}
	out, err := cmd.CombinedOutput()
	recorded, readErr := os.ReadFile(dir + "/calls")
	if readErr != nil {
		t.Fatalf("no call: %v\n%s", err, out)
	}
	for dec := json.NewDecoder(bytes.NewReader(recorded)); ; {
		var c call
		if err := dec.Decode(&c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, c)
	}
	left, err2 := os.ReadDir(dir)
	if err2 != nil || len(left) != 1 {
		t.Errorf("the script leaves files: %v %v", left, err2)
	}
	return calls, string(out), err
}

// record runs a script and writes down what happens.
func record(t *testing.T, script string, answers []answer) string {
	t.Helper()
	calls, output, err := run(t, script, answers)
	var text strings.Builder
	for _, c := range calls {
		for i, arg := range c.Args {
			if strings.HasPrefix(arg, "--jwk-json-path=") {
				arg = "--jwk-json-path=TEMPORARY"
			}
			if i > 0 {
				text.WriteString(" ")
			}
			text.WriteString(word(arg))
		}
		fmt.Fprintf(&text, "\n%s%s", c.Stdin, c.Keys)
	}
	fmt.Fprintf(&text, "---\n%s", output)
	if err != nil {
		fmt.Fprintf(&text, "%v\n", err)
	}
	return text.String()
}

var plain = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

func word(arg string) string {
	if plain.MatchString(arg) {
		return arg
	}
	return "‹" + arg + "›"
}
