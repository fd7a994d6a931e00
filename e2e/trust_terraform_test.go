package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A terraform is the real one, with stand-ins for its providers: they have the
// schemas of the real ones, and create nothing.
type terraform struct {
	lab *lab
	env []string
}

func (l *lab) newTerraform() *terraform {
	l.t.Helper()
	dir := l.path("providers")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		l.t.Fatal(err)
	}
	overrides := ""
	for _, name := range []string{"aws", "azuread", "azurerm", "google", "vault"} {
		if err := os.Symlink(standInBinary, filepath.Join(dir, "terraform-provider-"+name)); err != nil {
			l.t.Fatal(err)
		}
		overrides += fmt.Sprintf("    \"hashicorp/%s\" = %q\n", name, dir)
	}
	config := l.write("terraform.rc", "provider_installation {\n  dev_overrides {\n"+overrides+"  }\n}\n")
	return &terraform{lab: l, env: []string{"TF_CLI_CONFIG_FILE=" + config, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1"}}
}

// write makes a module of one file.
func (tf *terraform) write(name, text string) (dir string) {
	tf.lab.t.Helper()
	dir = tf.lab.path("modules", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tf.lab.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "trust.tf"), []byte(text), 0o600); err != nil {
		tf.lab.t.Fatal(err)
	}
	return dir
}

// checkFormat returns an error if `terraform fmt` would change the text.
func (tf *terraform) checkFormat(name, text string) error {
	dir := tf.write(name, text)
	cmd := exec.CommandContext(tf.lab.t.Context(), terraformBinary, "fmt", "-check", "-diff", dir)
	if out, err := tf.lab.execute(cmd, "", tf.env...); err != nil {
		return fmt.Errorf("%w%s", err, out)
	}
	return nil
}

// validate returns an error if `terraform validate` finds anything but that the
// providers are not the real ones.
func (tf *terraform) validate(name, text string) error {
	dir := tf.write(name, text)
	cmd := exec.CommandContext(tf.lab.t.Context(), terraformBinary, "-chdir="+dir, "validate", "-json")
	out, failed := tf.lab.execute(cmd, "", tf.env...)
	var answer struct {
		Valid       bool
		Diagnostics []struct{ Severity, Summary, Detail string }
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return fmt.Errorf("terraform validate: %w, %w\n%s", failed, err, out)
	}
	var found []string
	for _, d := range answer.Diagnostics {
		if d.Summary != "Provider development overrides are in effect" {
			found = append(found, d.Severity+": "+d.Summary+": "+d.Detail)
		}
	}
	if !answer.Valid || len(found) > 0 {
		return fmt.Errorf("terraform validate: valid %t\n%s", answer.Valid, strings.Join(found, "\n"))
	}
	return nil
}

// TestTrustTerraform has Terraform itself look at all that is printed for it.
func TestTrustTerraform(t *testing.T) {
	lab := newLab(t)
	p, connectTo := lab.newPublicProvider()
	p.init()
	p.start()
	tf := lab.newTerraform()

	public := map[string][]string{
		"aws":               {"aws"},
		"aws-policies":      {"aws", "--role-name", "Till.Role", "--policy-arn", "arn:aws:iam::aws:policy/ReadOnlyAccess", "--policy-arn", "arn:aws:iam::123456789012:policy/a/b"},
		"gcp":               {"gcp"},
		"gcp-roles":         {"gcp", "--project", "my-project", "--role", "roles/storage.objectViewer", "--role", "roles/viewer", "--audience", "https://example.com/a"},
		"gcp-account":       {"gcp", "--google-service-account", "till@my-project.iam.gserviceaccount.com"},
		"gcp-copy":          {"gcp", "--keys", "copy"},
		"azure":             {"azure", "--resource-group", "shop"},
		"azure-application": {"azure", "--application", "11111111-2222-3333-4444-555555555555"},
		"vault":             {"vault", "--policy", "a", "--policy", "b/c"},
		"vault-jwks":        {"vault", "--keys", "jwks"},
		"vault-copy":        {"vault", "--keys", "copy", "--path", "clusters/a"},
	}
	private := map[string][]string{
		"aws-private":        {"aws"},
		"gcp-private":        {"gcp"},
		"vault-private":      {"vault"},
		"vault-private-jwks": {"vault", "--keys", "jwks"},
		"vault-private-copy": {"vault", "--keys", "copy"},
	}
	texts := make(map[string]string)
	for name, args := range private {
		texts[name] = p.trust(args[0], append(append(args[1:], "--format", "terraform", "--ca-file", lab.ca.caFile), connectTo...)...)
	}
	// From here on everybody knows the CA.
	t.Setenv("SSL_CERT_FILE", lab.ca.caFile)
	for name, args := range public {
		texts[name] = p.trust(args[0], append(append(args[1:], "--format", "terraform"), connectTo...)...)
	}
	for name, text := range texts {
		if err := tf.checkFormat(name, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := tf.validate(name, text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	t.Run("no", func(t *testing.T) { testTerraformNo(t, tf, texts["aws"]) })
	p.stop()
}

// testTerraformNo shows that Terraform's yes means something.
func testTerraformNo(t *testing.T, tf *terraform, text string) {
	if err := tf.checkFormat("no-format", strings.Replace(text, "  url ", "    url ", 1)); err == nil {
		t.Error("terraform fmt -check takes what is not indented well")
	}
	for name, test := range map[string]struct{ old, new, reason string }{
		"no-argument": {"client_id_list", "client_ids", "Unsupported argument"},
		"no-url":      {"  url            = \"https://" + publicHost + "\"\n", "", "Missing required argument"},
		"no-list":     {"[\"sts.amazonaws.com\"]\n}", "\"sts.amazonaws.com\"\n}", "Incorrect attribute value type"},
		"no-block":    {"    principals {", "    principal {", "Unsupported block type"},
		"no-resource": {`resource "aws_iam_role"`, `resource "aws_iam_rolle"`, "Invalid resource type"},
		"no-data":     {"data.aws_iam_policy_document.", "data.aws_iam_policy_dokument.", "Reference to undeclared resource"},
	} {
		changed := strings.Replace(text, test.old, test.new, 1)
		if changed == text {
			t.Errorf("%s: nothing to change in\n%s", name, text)
			continue
		}
		if err := tf.validate(name, changed); err == nil || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: %v, want %q", name, err, test.reason)
		}
	}
}
