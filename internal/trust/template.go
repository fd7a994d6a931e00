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

// Every value in a template passes through a function of quoting. A test ensures
// that.
var templates = template.Must(template.New("").Funcs(quoting).ParseFS(files, "templates/*"))

// quoting has the functions that put a value into a text.
var quoting = template.FuncMap{
	"sh":      shellescape.Quote, // a shell word, or a part of one
	"json":    toJSON,            // a JSON document, indented
	"quoted":  quoted,            // a part of a shell string in double quotes
	"hcl":     toHCL,             // a Terraform expression, from a string, a list of strings or JSON
	"part":    part,              // a part of a Terraform string
	"yaml":    toYAML,            // a YAML scalar
	"lines":   lines,             // the lines of a YAML block scalar, indented
	"go":      strconv.Quote,     // a Go string
	"comment": comment,           // the rest of a comment or of a line of prose
	"name":    name,              // a name with only letters, digits and ._-
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

// heredoc escapes everything that a shell would expand in a here-document.
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
		return strconv.Quote(s), nil // a JSON string is also YAML
	}
	return strings.TrimSuffix(string(data), "\n"), err
}

// lines indents the lines of s by n spaces, except the first.
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
		return "", fmt.Errorf("%q is not a name", s)
	}
	return s, nil
}
