package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"oidc-provider/internal/config"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestExampleConfigurations starts each configuration that the README shows, and
// the one of `config example`, in a directory of its own with the files that
// they name; files of API servers are missing. Every issuer must be known, and
// those whose keys are there served.
func TestExampleConfigurations(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 4 {
		t.Fatalf("%d configurations in the README", len(blocks))
	}
	texts := []string{string(config.Example)}
	issuerFile := ""
	for _, block := range blocks {
		if strings.HasPrefix(block[1], "issuer:") {
			issuerFile = block[1]
			continue
		}
		texts = append(texts, block[1])
	}
	for i, text := range texts {
		t.Run(fmt.Sprint(i), func(t *testing.T) { startExample(t, text, issuerFile) })
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
	if err := makeCertificate(filepath.Join(dir, "etc/oidc-provider/tls.crt"), filepath.Join(dir, "etc/oidc-provider/tls.key")); err != nil {
		t.Fatal(err)
	}
	text = own(addresses.ReplaceAllString(text, ""))
	// No authority is asked from here.
	text = directory.ReplaceAllString(text, "$1\n    directory: https://127.0.0.1:1/directory")
	p.write("config.yaml", text)
	cfg, issuers, err := loadAll(filepath.Join(dir, "config.yaml"))
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
