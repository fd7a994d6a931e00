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
	case t.Kind() == reflect.String:
		return &jsonschema.Schema{Type: "string"}
	}
	s := &jsonschema.Schema{
		Type: "object", Properties: make(map[string]*jsonschema.Schema),
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}, // none
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name := fieldName(f)
		if name == "-" {
			continue
		}
		s.PropertyOrder = append(s.PropertyOrder, name)
		s.Properties[name] = schemaOf(f.Type, docs)
		s.Properties[name].Description = docs[t.Name()+"."+f.Name]
		if !strings.HasSuffix(f.Tag.Get("yaml"), ",omitempty") {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

// fieldDocs are the comments of all fields, by Type.Field, with the names that
// stand in files.
func fieldDocs() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	docs := make(map[string]string)
	names := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		fields, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		doc := ""
		for _, f := range fields.Fields.List {
			if f.Doc != nil { // one comment may stand for some fields in a row
				doc = strings.Join(strings.Fields(f.Doc.Text()), " ")
			}
			tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
			docs[spec.Name.Name+"."+f.Names[0].Name] = doc
			names[f.Names[0].Name], _, _ = strings.Cut(tag.Get("yaml"), ",")
		}
		return true
	})
	for field, doc := range docs {
		docs[field] = inFile(doc, names)
	}
	return docs, nil
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
