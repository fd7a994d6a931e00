package trust

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/template"

	"al.essio.dev/pkg/shellescape"
	"github.com/hashicorp/hcl/v2/hclwrite"
	ctyjson "github.com/zclconf/go-cty/cty/json"
	"sigs.k8s.io/yaml"
)

//go:embed templates
var files embed.FS

// Every value in a template goes through one of quoting: a test sees to it.
var templates = template.Must(template.New("").Funcs(quoting).ParseFS(files, "templates/*"))

// quoting are the ways for a value into a text.
var quoting = template.FuncMap{
	"sh":      shellescape.Quote, // a word of a shell, or a part of one
	"json":    toJSON,            // a JSON document, indented
	"quoted":  quoted,            // a part of a string of a shell in double quotes
	"hcl":     toHCL,             // an expression of Terraform, from what is a string, a list of them or JSON
	"part":    part,              // a part of a string of Terraform
	"yaml":    toYAML,            // a scalar of YAML
	"lines":   lines,             // the lines of a block scalar of YAML, indented
	"go":      strconv.Quote,     // a string of Go
	"comment": comment,           // the rest of a line that nobody reads but people
	"name":    name,              // what has only letters, digits and ._- in it
}

func execute(name string, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name, data); err != nil {
		return nil, fmt.Errorf("printing %s: %w", name, err)
	}
	return out.Bytes(), nil
}

func toJSON(v any) (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return strings.TrimSuffix(out.String(), "\n"), err
}

func quoted(s string) string { return strings.ReplaceAll(heredoc(s), `"`, `\"`) }

// heredoc keeps a shell from expanding anything in a here-document.
func heredoc(s string) string {
	return strings.NewReplacer(`\`, `\\`, `$`, `\$`, "`", "\\`").Replace(s)
}

func toHCL(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	t, err := ctyjson.ImpliedType(data)
	if err != nil {
		return "", err
	}
	value, err := ctyjson.Unmarshal(data, t)
	if err != nil {
		return "", err
	}
	return string(hclwrite.TokensForValue(value).Bytes()), nil
}

func part(s string) (string, error) {
	quoted, err := toHCL(s)
	return strings.TrimSuffix(strings.TrimPrefix(quoted, `"`), `"`), err
}

func toYAML(s string) (string, error) {
	data, err := yaml.Marshal(s)
	if err == nil && bytes.Count(data, []byte("\n")) != 1 {
		return strconv.Quote(s), nil // a JSON string is YAML, too
	}
	return strings.TrimSuffix(string(data), "\n"), err
}

// lines indents the lines of s by n spaces, but for the first.
func lines(n int, s string) string {
	return strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n"+strings.Repeat(" ", n))
}

func comment(v any) string {
	s := fmt.Sprint(v)
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return strconv.Quote(s)
	}
	return s
}

func name(s string) (string, error) {
	if strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	}) {
		return "", fmt.Errorf("%q is no name", s)
	}
	return s, nil
}
