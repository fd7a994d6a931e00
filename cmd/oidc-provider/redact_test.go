package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestSecretsAreNotEchoed gives every command a private key for every flag and
// argument.
func TestSecretsAreNotEchoed(t *testing.T) {
	t.Chdir(t.TempDir())
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	secret := identity.String()
	pem := "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n"
	for _, value := range []string{secret, strings.ToLower(secret), "keys/" + secret, "file:" + secret + ".txt", secret + "," + secret, pem} {
		hidden := value[len(value)/2 : len(value)/2+12]
		try := func(args ...string) {
			t.Helper()
			var out bytes.Buffer
			code := run(context.Background(), args, strings.NewReader(""), &out, &out)
			if code == 0 {
				t.Errorf("%.60q: it is accepted: %s", args, out.String())
			}
			if strings.Contains(strings.ToLower(out.String()), strings.ToLower(hidden)) {
				t.Errorf("%.60q: it is echoed: %s", args, out.String())
			}
		}
		var visit func(cmd *cobra.Command, path []string)
		visit = func(cmd *cobra.Command, path []string) {
			for _, sub := range cmd.Commands() {
				if name := sub.Name(); name != "completion" && name != "help" {
					visit(sub, append(path[:len(path):len(path)], name))
				}
			}
			if cmd.HasSubCommands() {
				return
			}
			try(append(path[:len(path):len(path)], value)...)
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Name != "help" && f.Value.Type() != "bool" {
					try(append(path[:len(path):len(path)], "--"+f.Name+"="+value)...)
				}
			})
		}
		visit(newRootCommand(), nil)
		try(value)
		try("keys", value)
		try("keys", "list", "--"+value)
	}
	t.Setenv("OIDC_PROVIDER_AGE_IDENTITY", secret)
	var out bytes.Buffer
	if code := run(context.Background(), []string{"keys", "list"}, nil, &out, &out); code != 1 ||
		!strings.Contains(out.String(), "--age-identity is a private key") || strings.Contains(out.String(), secret[20:]) {
		t.Errorf("from the environment: %d, %s", code, out.String())
	}
}

// TestServeForbidsDumps looks at a server of an unprivileged user.
func TestServeForbidsDumps(t *testing.T) {
	p := ownProcess(t)
	p.must("keys", "init", "--store", "keys", "--issuer", p.issuer, "--algorithm", "ES256")
	p.start("--signer-socket", "s.sock", "--signer-socket-mode", "0660")
	proc := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	limits, err := os.ReadFile(proc + "/limits")
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	for line := range strings.Lines(string(limits)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (fields[4] != "0" || fields[5] != "0") {
			t.Errorf("the limits are %s", line)
		}
	}
	// The memory of a process that may be dumped belongs to its user.
	info, err := os.Stat(proc + "/mem")
	if err != nil {
		t.Fatal(err)
	}
	if uid := uidOf(info); uid != 0 {
		t.Errorf("user %d can read the memory", uid)
	}
	if p.as == nil || os.Geteuid() != 0 {
		return
	}
	read := p.shell("head -c 1 " + proc + "/environ")
	if out, err := read.CombinedOutput(); err == nil {
		t.Errorf("another process of its user can read of it: %q", out)
	}
}
