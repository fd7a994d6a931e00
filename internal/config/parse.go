package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"go.yaml.in/yaml/v3"
)

// maxFile is far more than any configuration file that a person has written.
const maxFile = 16 << 20

// Load reads the file name, checks it, and fills in the defaults. The error
// tells everything that is wrong with it, a line each, with the line of the
// file. The files of IssuersDir are not looked at: see [Dir].
func Load(name string) (*Config, error) {
	data, err := Read(name)
	if err != nil {
		return nil, err
	}
	return Parse(name, data)
}

// Read reads the file name, up to a size that no configuration has.
func Read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w (hint: `oidc-provider config example` prints one)", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("configuration %s: larger than %d MiB (hint: issuersDir takes any number of small files)", name, maxFile>>20)
	}
	return data, nil
}

// Parse is [Load] for what has been read from the file name already.
func Parse(name string, data []byte) (*Config, error) {
	docs, err := decodeAll[Config](name, data)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, fmt.Errorf("%s: %d YAML documents, want one (hint: `oidc-provider config example` prints one)", name, len(docs))
	}
	c, problems := docs[0].value, docs[0].problems
	if len(problems.found) == 0 {
		if problems.lines["shutdownDelay"] == 0 {
			c.ShutdownDelay = Duration(DefaultShutdownDelay)
		}
		c.withDefaults()
		c.resolve(filepath.Dir(name))
		c.check(problems)
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// parseIssuers reads the issuers of a file in IssuersDir.
func parseIssuers(name string, data []byte, parent *Config) ([]Issuer, error) {
	docs, err := decodeAll[Issuer](name, data)
	if err != nil {
		return nil, err
	}
	// An empty file is one that is being written, not one without issuers.
	if len(docs) == 0 {
		return nil, fmt.Errorf("%s: it is empty (hint: to remove an issuer, remove its file)", name)
	}
	var issuers []Issuer
	var errs []error
	for _, doc := range docs {
		if len(doc.problems.found) == 0 {
			doc.value.withDefaults(parent)
			doc.value.resolve(filepath.Dir(name))
			doc.value.check(doc.problems, "")
		}
		errs = append(errs, doc.problems.err())
		issuers = append(issuers, *doc.value)
	}
	return issuers, errors.Join(errs...)
}

// A doc is one YAML document and what is wrong with it.
type doc[T any] struct {
	value    *T
	problems *problems
}

// decodeAll decodes every document of a file strictly. The error is about the
// file as YAML; what is wrong with a document stands in its problems.
func decodeAll[T any](name string, data []byte) ([]doc[T], error) {
	var docs []doc[T]
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var node yaml.Node
		err := dec.Decode(&node)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s", name, located(err.Error()))
		}
		if content := node.Content; len(content) == 1 && content[0].Tag == "!!null" {
			continue // as templates leave between two ---
		}
		d := doc[T]{new(T), &problems{file: name, lines: make(map[string]int), aliases: make(map[aliased]bool)}}
		d.problems.walk(&node, reflect.TypeFor[T](), "")
		if len(d.problems.found) == 0 {
			if err := node.Decode(d.value); err != nil {
				d.problems.decoding(err)
			}
		}
		docs = append(docs, d)
	}
}

// problems are what is wrong with a document, and the lines that its fields
// stand in, by path.
type problems struct {
	file    string
	lines   map[string]int
	aliases map[aliased]bool // that were walked
	found   []problem
}

// aliased is a node that was walked as a type.
type aliased struct {
	node *yaml.Node
	as   reflect.Type
}

type problem struct {
	line int
	text string
}

// add notes that the field at path is wrong. If it is not there the line is
// that of what it belongs in.
func (p *problems) add(path, format string, args ...any) {
	at := path
	for at != "" && p.lines[at] == 0 {
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	text := fmt.Sprintf(format, args...)
	if path != "" {
		text = path + ": " + text
	}
	p.found = append(p.found, problem{max(p.lines[at], 1), text})
}

func (p *problems) err() error {
	slices.SortStableFunc(p.found, func(a, b problem) int { return a.line - b.line })
	var errs []error
	for _, f := range p.found {
		errs = append(errs, fmt.Errorf("%s:%d: %s", p.file, f.line, f.text))
	}
	return errors.Join(errs...)
}

var lineNumber = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\n\s*)?line (\d+): `)

// located is an error of the YAML library that begins with its line, if it
// tells one.
func located(text string) string {
	if m := lineNumber.FindStringSubmatch(text); m != nil {
		return "line " + m[1] + ": " + text[len(m[0]):]
	}
	return strings.TrimPrefix(text, "yaml: ")
}

// decoding notes values that do not fit their fields.
func (p *problems) decoding(err error) {
	var typeError *yaml.TypeError
	if !errors.As(err, &typeError) {
		p.found = append(p.found, problem{1, located(err.Error())})
		return
	}
	for _, text := range typeError.Errors {
		line := 1
		if m := lineNumber.FindStringSubmatch(text); m != nil {
			fmt.Sscan(m[1], &line)
			text = text[len(m[0]):]
		}
		p.found = append(p.found, problem{line, text})
	}
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// walk compares a document with the type that it is to be decoded into: fields
// that are not known, and texts that do not fit. It remembers where fields are.
func (p *problems) walk(n *yaml.Node, t reflect.Type, path string) {
	switch n.Kind {
	case yaml.DocumentNode:
		p.walk(n.Content[0], t, path)
		return
	case yaml.AliasNode:
		if as := (aliased{n.Alias, t}); !p.aliases[as] { // it may contain itself
			p.aliases[as] = true
			p.walk(n.Alias, t, path)
		}
		return
	}
	if p.lines[path] == 0 {
		p.lines[path] = n.Line
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			p.walkText(n.Value, reflect.New(t), path)
		}
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		p.walkFields(n, t, path)
	case t.Kind() == reflect.Struct && n.Tag == "!!null":
		p.add(path, "it is empty (hint: leave it out, fill it, or write {} for all defaults)")
	case t.Kind() == reflect.Struct:
		p.add(path, "want fields, like %s: …", fieldNames(t)[0])
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			p.walk(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case t.Kind() == reflect.Slice && n.Tag != "!!null":
		p.add(path, "want a list (hint: begin each line of it with -)")
	}
}

func (p *problems) walkText(text string, value reflect.Value, path string) {
	err := value.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	switch {
	case err != nil:
		p.add(path, "%q: %v", text, err)
	case value.Elem().IsZero() && path != "shutdownDelay": // it would count as not set
		p.add(path, "%q: must be more than 0 (hint: leave it out for the default)", text)
	}
}

func (p *problems) walkFields(n *yaml.Node, t reflect.Type, path string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			merged := []*yaml.Node{value}
			if value.Kind == yaml.SequenceNode {
				merged = value.Content
			}
			for _, m := range merged {
				p.walk(m, t, path)
			}
			continue
		}
		at := key.Value
		if path != "" {
			at = path + "." + key.Value
		}
		p.lines[at] = key.Line
		field, ok := fieldOf(t, key.Value)
		if !ok {
			p.add(at, "unknown field (hint: %s)", nearest(key.Value, fieldNames(t)))
			continue
		}
		p.walk(value, field.Type, at)
	}
}

// A field is a field of a file, and the type that declares it.
type field struct {
	reflect.StructField
	in reflect.Type
}

// fields returns the fields of t that a file can have, those of embedded structs
// included.
func fields(t reflect.Type) (all []field) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch name := fieldName(f); {
		case f.Anonymous && name == "":
			all = append(all, fields(f.Type)...)
		case name != "-":
			all = append(all, field{f, t})
		}
	}
	return all
}

func fieldOf(t reflect.Type, name string) (reflect.StructField, bool) {
	for _, f := range fields(t) {
		if fieldName(f.StructField) == name {
			return f.StructField, true
		}
	}
	return reflect.StructField{}, false
}

// fieldName returns the name of f in a file, "-" if it has none.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func fieldNames(t reflect.Type) (names []string) {
	for _, f := range fields(t) {
		names = append(names, fieldName(f.StructField))
	}
	return names
}

// nearest suggests which of names was meant.
func nearest(name string, names []string) string {
	best, distance := "", len(name)/2+1
	for _, candidate := range names {
		if d := levenshtein.Distance(strings.ToLower(name), strings.ToLower(candidate), nil); d < distance {
			best, distance = candidate, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "there are " + strings.Join(names, ", ")
}
