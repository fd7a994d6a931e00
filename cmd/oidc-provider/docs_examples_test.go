package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"oidc-provider/internal/config"
)

// TestExampleConfigurations starts each configuration that a page shows, and
// the one of `config example`, in a directory of its own with the files that
// they name. Files of API servers are missing. Every issuer must be known, and
// those whose keys exist must be served.
func TestExampleConfigurations(t *testing.T) {
	type example struct{ name, text string }
	examples := []example{{"config example", string(config.Example)}}
	issuerFile := ""
	for _, b := range blocks(t, "yaml") {
		switch {
		case isForeign(b.text):
		case strings.HasPrefix(b.text, "issuer:"):
			issuerFile = b.text
		default:
			examples = append(examples, example{b.at, b.text})
		}
	}
	if len(examples) < 6 || issuerFile == "" {
		t.Fatalf("%d configurations in the pages", len(examples))
	}
	// No API server is asked from here.
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) { startExample(t, e.text, issuerFile) })
	}
}

// isForeign reports whether a YAML block is for another program: Kubernetes,
// kubeadm's patches, Prometheus.
func isForeign(text string) bool {
	return slices.ContainsFunc([]string{"apiVersion:", "- {op:", "groups:"}, func(start string) bool {
		return strings.HasPrefix(text, start)
	})
}

// TestForeignExamples reads the YAML that is for other programs, and checks what
// it says about this one: command lines and metrics.
func TestForeignExamples(t *testing.T) {
	documented := documentedMetrics(t)
	for _, b := range blocks(t, "yaml") {
		if !isForeign(b.text) {
			continue
		}
		for _, metric := range metricName.FindAllString(b.text, -1) {
			if !slices.Contains(documented, metric) {
				t.Errorf("%s: the metric %s is not in docs/operate.md", b.at, metric)
			}
		}
		decoder := yaml.NewDecoder(strings.NewReader(b.text))
		for {
			var document any
			err := decoder.Decode(&document)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s: %v", b.at, err)
				break
			}
			checkContainers(t, b.at, document)
		}
	}
}

// checkContainers checks the command lines of this program in a manifest.
func checkContainers(t *testing.T, at string, document any) {
	switch d := document.(type) {
	case []any:
		for _, e := range d {
			checkContainers(t, at, e)
		}
	case map[string]any:
		if image, _ := d["image"].(string); strings.HasSuffix(image, "/oidc-provider") {
			var args []string
			for _, field := range []string{"command", "args"} {
				words, _ := d[field].([]any)
				for _, word := range words {
					args = append(args, fmt.Sprint(word))
				}
			}
			if len(args) > 0 && args[0] == "oidc-provider" {
				args = args[1:]
			}
			if err := checkCommandLine(args); err != nil || len(args) == 0 {
				t.Errorf("%s: %q: %v", at, args, err)
			}
		}
		for _, e := range d {
			checkContainers(t, at, e)
		}
	}
}

// TestWalkthroughs executes the blocks of the pages that are marked for it, each
// in an empty directory.
func TestWalkthroughs(t *testing.T) {
	program, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for _, b := range blocks(t, "sh") {
		if !b.run {
			continue
		}
		n++
		t.Run(b.at, func(t *testing.T) {
			dir, bin := t.TempDir(), t.TempDir()
			if err := os.Symlink(program, filepath.Join(bin, "oidc-provider")); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-eux", "-c", b.text)
			cmd.Dir = dir
			cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	if n == 0 {
		t.Error("no block is marked with " + runMark)
	}
}

var (
	addresses   = regexp.MustCompile(`(?m)^(listen|adminListen|shutdownDelay): .*\n`)
	systemPaths = regexp.MustCompile(`([ "\[])/(etc|var|run)/`)
	directory   = regexp.MustCompile(`(?m)^(  acme:.*)$`)
)

func startExample(t *testing.T, text, issuerFile string) {
	if err := parses(text); err != nil {
		t.Fatalf("as it stands: %v", err)
	}
	p := newProcess(t)
	dir := p.dir
	own := func(text string) string { return systemPaths.ReplaceAllString(text, "${1}"+dir+"/$2/") }
	for _, name := range []string{"etc/kubernetes/pki/sa.pub", "etc/oidc-provider/keys/c.pem", "keys-c/a.pem"} {
		p.write(name, testKey(t, "rsa-public.pem"))
	}
	p.write("etc/oidc-provider/issuers.d/c.yaml", own(issuerFile))
	p.write("run/oidc-provider/README", "where the socket is to be")
	certificate := filepath.Join(dir, "etc/oidc-provider/tls")
	if err := makeCertificate(certificate+".crt", certificate+".key"); err != nil {
		t.Fatal(err)
	}
	text = own(addresses.ReplaceAllString(text, ""))
	// No authority is asked from here.
	text = directory.ReplaceAllString(text, "$1\n    directory: https://127.0.0.1:1/directory")
	p.write("config.yaml", text)
	cfg, issuers, err := config.LoadAll(filepath.Join(dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var served []string
	for _, i := range issuers {
		switch {
		case i.Managed != nil && !i.Managed.Create:
			p.must("keys", "init", "--store", i.Managed.Store, "--issuer", i.Issuer, "--algorithm", "ES256")
			served = append(served, i.Issuer)
		case i.Managed != nil, i.Files != nil:
			served = append(served, i.Issuer)
		}
	}
	p.launch("serve", "--config", "config.yaml")
	p.eventually("it is alive", func() bool { return get("http://"+p.adminAddr+"/livez") == http.StatusOK })
	for _, i := range issuers {
		url := "http://" + p.adminAddr + "/readyz?verbose&issuer=" + i.Issuer
		p.eventually(i.Issuer+" is known", func() bool { return strings.Contains(fetchBody(url), "keys") })
	}
	for _, issuer := range served {
		path := strings.TrimPrefix(issuer, "https://oidc.example.com") + "/openid/v1/jwks"
		if cfg.TLS != nil {
			url := "http://" + p.adminAddr + "/readyz?issuer=" + issuer
			p.eventually(issuer+" is ready", func() bool { return get(url) == http.StatusOK })
			continue
		}
		p.eventually(path+" is served", func() bool { return get("http://"+p.addr+path) == http.StatusOK })
	}
	p.stop()
}

func parses(text string) error {
	_, err := config.Parse("/etc/oidc-provider/config.yaml", []byte(text))
	return err
}
