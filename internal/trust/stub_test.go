package trust_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"oidc-provider/internal/trust"
)

// A call is one that a script has made.
type call struct {
	Args  []string
	Stdin string // of vault
	Keys  string // the file of gcloud's --jwk-json-path
}

// An answer is what a tool says to calls that have Has in them; without one, it
// fails if it was asked for something, and is silent otherwise. What begins with
// an exclamation mark is said by a tool that fails.
type answer struct{ Has, Say string }

// stub notes how it was called, each word with a NUL behind it, and answers.
const stub = `#!/bin/bash
line="${0##*/} $*" stdin= keys=
case $line in *" -") stdin=$(cat) ;; esac
for arg; do case $arg in --jwk-json-path=*) keys=$(cat "${arg#*=}") ;; esac; done
printf '%s\0' $# "${0##*/}" "$@" "$stdin" "$keys" >>"$CALLS"
while IFS='|' read -r has say; do
  if [[ $has && $line == *"$has"* ]]; then
    if [[ $say == '!'* ]]; then echo "${say#!}" >&2; exit 2; fi
    echo "$say"
    exit 0
  fi
done <<<"$ANSWERS"
if [[ $line =~ \ (get-[a-z-]+|describe|show|read)\  ]]; then
  echo "No value found at ${*: -1}" >&2
  exit 1
fi
`

// installStubs makes a directory of the tools that scripts call.
func installStubs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"aws", "gcloud", "az", "vault"} {
		if err := os.WriteFile(filepath.Join(dir, tool), []byte(stub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
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
		ours = []answer{{"value(oidc.jwksJson)", ""}, {"providers list", s.Provider + "\t" + s.Issuer.String()}, {"pools describe", "{}"}}
		theirs = []answer{{"providers list", "theirs\thttps://other.example.com"}, {"pools describe", "{}"}}
	case *trust.Azure:
		who = []answer{{"--query clientId", "11111111-2222-3333-4444-555555555555"}, {"enantId", "99999999-2222-3333-4444-555555555555"}}
		ours = []answer{{"identity list", s.Identity}, {"federated-credential list", s.Issuer.String() + "\t" + s.Subject()}}
		theirs = []answer{{"identity list", s.Identity}, {"federated-credential list", "https://other.example.com\t" + s.Subject()}}
	case *trust.Vault:
		ours = []answer{{"auth list", s.Path + "/ jwt auth_jwt_1 n/a"}, {"-field=bound_issuer", s.Issuer.String()}, {"-field=bound_subject", s.Subject()}}
		theirs = []answer{{"auth list", s.Path + "/ jwt auth_jwt_1 n/a"}, {"-field=bound_issuer", ""}}
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
	stubs, noted, temporary := installStubs(t), filepath.Join(t.TempDir(), "calls"), t.TempDir()
	var said strings.Builder
	for _, a := range answers {
		fmt.Fprintf(&said, "%s|%s\n", a.Has, a.Say)
	}
	cmd := exec.Command("bash")
	cmd.Dir = temporary
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = []string{"PATH=" + stubs + ":" + os.Getenv("PATH"), "TMPDIR=" + temporary, "CALLS=" + noted, "ANSWERS=" + strings.TrimSuffix(said.String(), "\n")}
	out, err := cmd.CombinedOutput()
	recorded, readErr := os.ReadFile(noted)
	if readErr != nil {
		t.Fatalf("no call: %v\n%s", err, out)
	}
	for words := strings.Split(string(recorded), "\x00"); len(words) > 1; {
		n, err := strconv.Atoi(words[0])
		if err != nil {
			t.Fatalf("%q is no number of words", words[0])
		}
		calls = append(calls, call{words[1 : n+2], words[n+2], words[n+3]})
		words = words[n+4:]
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("the script leaves files: %v %v", left, err)
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
		text.WriteString("\n")
		if in := c.Stdin + c.Keys; in != "" {
			text.WriteString(in + "\n")
		}
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
