package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestIssuersDirRunsNothing drops a file into issuersDir whose kubeconfig runs a
// program, and one whose kubeconfig gets one later.
func TestIssuersDirRunsNothing(t *testing.T) {
	for _, tt := range []struct {
		name, allow, kubeconfig string
		runs                    bool
	}{
		{"by default", "{}", "k", false},
		{"with a context", "{}", "k, context: c", false},
		{"in a root", "{roots: [.]}", "../other/k", false},
		{"elsewhere", "{programs: true}", "../other/k", false},
		{"managed", "{managed: true}", "", false},
		{"replaced after a start", "{}", "later", false},
		{"allowed", "{programs: true}", "k", true},
		{"allowed in a root", "{programs: true, roots: [other]}", "../other/k", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := ownProcess(t)
			trace := filepath.Join(p.dir, "trace")
			write := func(name, text string) {
				t.Helper()
				path := filepath.Join(p.dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			kubeconfig := func(user string) string {
				return fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}],
users: [{name: u, user: %s}]}`, user)
			}
			exec := kubeconfig(fmt.Sprintf("{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, "+
				"command: touch, args: [%q]}}", trace))
			write("d/k", exec)
			write("other/k", exec)
			write("d/later", kubeconfig("{token: t}"))
			write("config.yaml", fmt.Sprintf("listen: %s\nadminListen: %s\nshutdownDelay: 0s\nissuersDir: d\nissuersDirAllow: %s\n",
				p.addr, p.adminAddr, tt.allow))
			source := fmt.Sprintf("apiserver: {kubeconfig: %s, interval: 100ms}", tt.kubeconfig)
			if tt.kubeconfig == "" {
				source = "managed: {store: 'secret:a/b', kubeconfig: k}"
			}
			write("d/a.yaml", "issuer: https://a.test\n"+source+"\n")
			if p.as != nil {
				p.give(filepath.Join(p.dir, "d"), p.as)
			}
			p.launch("serve", "--config", "config.yaml")
			p.eventually("it serves", func() bool { return get("http://"+p.adminAddr+"/livez") == 200 })
			if tt.kubeconfig == "later" {
				write("d/later", exec)
			}
			ran := func() bool { _, err := os.Stat(trace); return !errors.Is(err, fs.ErrNotExist) }
			if tt.runs {
				p.eventually("the program has run", ran)
				p.stop()
				return
			}
			p.eventually("the reason is known", func() bool {
				says := p.output() + fetchBody("http://"+p.adminAddr+"/readyz?verbose")
				return strings.Contains(says, "neither exec nor an auth-provider is allowed") ||
					strings.Contains(says, "is in no directory that a file of issuersDir may use") || tt.kubeconfig == "later"
			})
			time.Sleep(500 * time.Millisecond)
			p.stop()
			if ran() {
				t.Errorf("a program has run\n%s", p.output())
			}
		})
	}
}
