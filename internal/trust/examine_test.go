package trust_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// examine looks at a text as what reads it would, and returns the strings that
// this gets out of it.
func examine(t testing.TB, format, text string) (values []string) {
	t.Helper()
	switch format {
	case "cli":
		examineScript(t, text)
	case "terraform":
		return examineTerraform(t, text)
	case "yaml":
		return []string{examineConfiguration(t, text)}
	case "pod":
		examineObjects(t, text)
	}
	return nil
}

func examineScript(t testing.TB, text string) {
	t.Helper()
	cmd := exec.Command("bash", "-n")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("bash -n: %v\n%s\n%s", err, out, text)
	}
	code := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
	if code[0] != "set -eu" {
		t.Errorf("it begins with %q", code[0])
	}
}

func examineTerraform(t testing.TB, text string) (values []string) {
	t.Helper()
	if formatted := string(hclwrite.Format([]byte(text))); formatted != text {
		t.Errorf("not formatted:\n%s", cmp.Diff(text, formatted))
	}
	file, problems := hclparse.NewParser().ParseHCL([]byte(text), "main.tf")
	if problems.HasErrors() {
		t.Fatalf("%v\n%s", problems, text)
	}
	seen := make(map[string]bool)
	for _, b := range file.Body.(*hclsyntax.Body).Blocks {
		name := b.Type + " " + strings.Join(b.Labels, " ")
		if seen[name] {
			t.Errorf("%s stands twice", name)
		}
		seen[name] = true
		for _, l := range b.Labels {
			if !hclsyntax.ValidIdentifier(l) {
				t.Errorf("%q is no name", l)
			}
		}
	}
	// What is no reference is a value by itself.
	hclsyntax.VisitAll(file.Body.(*hclsyntax.Body), func(n hclsyntax.Node) hcl.Diagnostics {
		if e, ok := n.(*hclsyntax.TemplateExpr); ok && len(e.Variables()) == 0 {
			v, problems := e.Value(nil)
			if problems.HasErrors() {
				t.Errorf("%v", problems)
			}
			values = append(values, v.AsString())
		}
		return nil
	})
	if terraform, err := exec.LookPath("terraform"); err == nil && strings.HasPrefix(t.Name(), "TestGolden") {
		cmd := exec.Command(terraform, "fmt", "-check", "-diff", "-")
		cmd.Stdin = strings.NewReader(text)
		cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1") // it would ask the network for news
		if out, err := cmd.Output(); err != nil {
			t.Errorf("terraform fmt: %v\n%s", err, out)
		}
	}
	return values
}

// authenticationConfiguration is what of apiserver.config.k8s.io/v1 is used.
type authenticationConfiguration struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	JWT        []struct {
		Issuer struct {
			URL                  string   `json:"url"`
			DiscoveryURL         string   `json:"discoveryURL"`
			CertificateAuthority string   `json:"certificateAuthority"`
			Audiences            []string `json:"audiences"`
		} `json:"issuer"`
		ClaimValidationRules []rule `json:"claimValidationRules"`
		ClaimMappings        struct {
			Username struct {
				Claim  string  `json:"claim"`
				Prefix *string `json:"prefix"`
			} `json:"username"`
			UID struct {
				Expression string `json:"expression"`
			} `json:"uid"`
		} `json:"claimMappings"`
		UserValidationRules []rule `json:"userValidationRules"`
	} `json:"jwt"`
}

type rule struct {
	Expression string `json:"expression"`
	Message    string `json:"message"`
}

func examineConfiguration(t testing.TB, text string) (issuer string) {
	t.Helper()
	var c authenticationConfiguration
	if err := yaml.UnmarshalStrict([]byte(text), &c); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if c.APIVersion != "apiserver.config.k8s.io/v1" || c.Kind != "AuthenticationConfiguration" || len(c.JWT) != 1 {
		t.Fatalf("it is %+v", c)
	}
	j := c.JWT[0]
	if prefix := j.ClaimMappings.Username.Prefix; prefix == nil || *prefix == "" || strings.HasPrefix(*prefix, "system:") {
		t.Errorf("prefix %v", prefix)
	}
	for _, r := range j.ClaimValidationRules {
		if r.Expression == "" || r.Message == "" {
			t.Errorf("rule %+v", r)
		}
	}
	if len(j.Issuer.Audiences) != 1 || j.Issuer.Audiences[0] == "" || j.ClaimMappings.Username.Claim != "sub" {
		t.Errorf("it is %+v", j)
	}
	return j.Issuer.URL
}

// examineObjects reads the manifests as an API server that is strict, and looks
// whether they go together.
func examineObjects(t testing.TB, text string) {
	t.Helper()
	var account corev1.ServiceAccount
	var settings corev1.ConfigMap
	var pod corev1.Pod
	for _, document := range strings.Split(text, "\n---\n") {
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		object := map[string]any{"ServiceAccount": &account, "ConfigMap": &settings, "Pod": &pod}[kind.Kind]
		if object == nil {
			t.Fatalf("it has a %s", kind.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			t.Errorf("%v\n%s", err, document)
		}
	}
	if pod.Spec.ServiceAccountName != account.Name || pod.Namespace != account.Namespace || settings.Name != "" && settings.Namespace != pod.Namespace {
		t.Errorf("they do not go together:\n%s", text)
	}
	mounted := make(map[string]string)
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.ConfigMap != nil && v.ConfigMap.Name == settings.Name:
			mounted[v.Name] = ""
		case v.Projected != nil && v.Projected.Sources[0].ServiceAccountToken != nil:
			token := v.Projected.Sources[0].ServiceAccountToken
			if token.Audience == "" || token.ExpirationSeconds == nil || *token.ExpirationSeconds < 600 || token.Path != "token" {
				t.Errorf("the token is %v", token)
			}
			mounted[v.Name] = ""
		default:
			t.Errorf("the volume %s is nothing", v.Name)
		}
	}
	container := pod.Spec.Containers[0]
	for _, m := range container.VolumeMounts {
		if _, ok := mounted[m.Name]; !ok {
			t.Errorf("there is no volume %s", m.Name)
		}
		mounted[m.Name] = m.MountPath
	}
	for name, path := range mounted {
		if path == "" {
			t.Errorf("nothing mounts the volume %s", name)
		}
	}
	files := []string{strings.Join(container.Command, " ")}
	for _, e := range container.Env {
		files = append(files, e.Value)
	}
	for name, data := range settings.Data {
		if !slices.Contains(files, mounted[settingsVolume(pod)]+"/"+name) {
			t.Errorf("no variable names %s", name)
		}
		if strings.HasSuffix(name, ".json") && !json.Valid([]byte(data)) {
			t.Errorf("%s is not JSON:\n%s", name, data)
		}
		files = append(files, data)
	}
	if all := strings.Join(files, "\n"); pod.Name != "trust-generic" && !strings.Contains(all, mounted["token"]+"/token") {
		t.Errorf("nothing reads the token:\n%s", text)
	}
	if bytes.Contains([]byte(text), []byte("\t")) {
		t.Error("it has tabs")
	}
}

func settingsVolume(pod corev1.Pod) string {
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			return v.Name
		}
	}
	return ""
}
