package config

import (
	_ "embed"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"oidc-provider/internal/store"
)

// Example is a configuration with a comment to every field.
//
//go:embed example.yaml
var Example []byte

// The comments of the types are the manual, in the schema as well.
//
//go:embed config.go
var source string

// Schema is the JSON Schema of a configuration file, or, with issuer, of a file
// in IssuersDir.
func Schema(issuer bool) ([]byte, error) {
	docs, err := fieldDocs()
	if err != nil {
		return nil, err
	}
	t, title := reflect.TypeFor[Config](), "The configuration of oidc-provider serve"
	if issuer {
		t, title = reflect.TypeFor[Issuer](), "An issuer of oidc-provider serve"
	}
	s := schemaOf(t, docs)
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", title
	return json.MarshalIndent(s, "", "  ")
}

const durationPattern = `^([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*$`

func schemaOf(t reflect.Type, docs map[string]string) *jsonschema.Schema {
	switch {
	case t == reflect.TypeFor[Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: durationPattern}
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), docs)
	case t.Kind() == reflect.Slice:
		return &jsonschema.Schema{Type: "array", Items: schemaOf(t.Elem(), docs)}
	case t.Kind() == reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}
	case t.Kind() == reflect.Int:
		return &jsonschema.Schema{Type: "integer"}
	case t.Kind() == reflect.Uint:
		return &jsonschema.Schema{Type: "integer", Minimum: new(float64)}
	case t.Kind() == reflect.String:
		return &jsonschema.Schema{Type: "string"}
	}
	s := &jsonschema.Schema{
		Type: "object", Properties: make(map[string]*jsonschema.Schema),
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}, // none
	}
	for _, f := range fields(t) {
		name := fieldName(f.StructField)
		s.PropertyOrder = append(s.PropertyOrder, name)
		s.Properties[name] = schemaOf(f.Type, docs)
		s.Properties[name].Description = docs[docKey(f.in, f.Name)]
		if !strings.HasSuffix(f.Tag.Get("yaml"), ",omitempty") {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

// sources are the files with the types that a configuration file has.
var sources = map[string]string{
	reflect.TypeFor[Config]().PkgPath():       source,
	reflect.TypeFor[store.Config]().PkgPath(): store.ConfigSource,
}

// docKey identifies the comment of a field.
func docKey(t reflect.Type, field string) string { return t.PkgPath() + "." + t.Name() + "." + field }

// fieldDocs returns the comments of all fields by [docKey], with the names that
// fields have in files.
func fieldDocs() (map[string]string, error) {
	docs := make(map[string]string)
	names := make(map[string]string)
	for pkg, source := range sources {
		file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if fields, ok := spec.Type.(*ast.StructType); ok {
					addDocs(pkg+"."+spec.Name.Name+".", fields.Fields.List, docs, names)
				}
			}
			return true
		})
	}
	for field, doc := range docs {
		docs[field] = inFile(doc, names)
	}
	return docs, nil
}

func addDocs(prefix string, fields []*ast.Field, docs, names map[string]string) {
	doc := ""
	for _, f := range fields {
		if len(f.Names) == 0 {
			continue // embedded: its fields have comments of their own
		}
		if f.Doc != nil { // one comment may describe several fields in a row
			doc = strings.Join(strings.Fields(f.Doc.Text()), " ")
		}
		docs[prefix+f.Names[0].Name] = doc
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		names[f.Names[0].Name], _, _ = strings.Cut(tag.Get("yaml"), ",")
	}
}

// goName is a name of Go rather than a word: the first of a comment, or one
// with a capital inside.
var goName = regexp.MustCompile(`^[A-Z]\w+|\b[A-Z]+[a-z]+[A-Z]\w*`)

func inFile(doc string, names map[string]string) string {
	return goName.ReplaceAllStringFunc(doc, func(word string) string {
		if name := names[word]; name != "" {
			return name
		}
		return word
	})
}
