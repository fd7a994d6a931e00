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

	"go.yaml.in/yaml/v3"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/input"
	"oidc-provider/internal/seal"
)

// Load reads the file name, checks it, and fills in the defaults. The error has a
// line for each problem, with the line of the file. Load does not read the files
// of IssuersDir: see [Dir].
func Load(name string) (*Config, error) {
	f, err := os.Open(name) // which may be a pipe, as in a shell's <(COMMAND)
	if err != nil {
		return nil, cannotRead(name, maxFile, err)
	}
	defer f.Close()
	data, err := input.ReadAtMost(f, maxFile)
	if err != nil {
		return nil, cannotRead(name, maxFile, err)
	}
	return Parse(name, data)
}

// Read reads the file name for a process that will read it again. It must be a
// regular file, not larger than any configuration is.
func Read(name string) ([]byte, error) {
	return read(name, maxFile)
}

func read(name string, limit int64) ([]byte, error) {
	data, _, err := input.ReadFile(name, limit)
	return data, cannotRead(name, limit, err)
}

// cannotRead adds to err, which may be nil, what was being done.
func cannotRead(name string, limit int64, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, input.ErrTooLarge):
		return hint.Errorf(manyFiles, "configuration %s: larger than %d KiB", name, limit>>10)
	case errors.Is(err, input.ErrHangs):
		return fmt.Errorf("configuration: %w", err)
	}
	return hint.Wrap(fmt.Errorf("configuration: %w", err), "`oidc-provider config example` prints one")
}

// Parse is [Load] for data that was read from the file name.
func Parse(name string, data []byte) (*Config, error) {
	docs, err := decodeAll[Config](name, data, mainBounds)
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, hint.Errorf("`oidc-provider config example` prints one", "%s: %d YAML documents, want one", name,
			len(docs))
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
	docs, err := decodeAll[Issuer](name, data, issuerBounds)
	if err != nil {
		return nil, err
	}
	// An empty file is one that is being written, not one without issuers.
	if len(docs) == 0 {
		return nil, hint.Errorf("to remove an issuer, remove its file", "%s: it is empty", name)
	}
	var issuers []Issuer
	var errs []error
	for _, doc := range docs {
		if len(errs) == maxProblems {
			errs = append(errs, fmt.Errorf("%s: there may be more problems", name))
			break
		}
		if len(doc.problems.found) == 0 {
			doc.value.withDefaults(parent)
			doc.value.resolve(filepath.Dir(name))
			doc.value.check(doc.problems, "")
			parent.limit(doc.value, doc.problems)
		}
		if err := doc.problems.err(); err != nil {
			errs = append(errs, err)
		}
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
// file as YAML; each document has problems of its own.
func decodeAll[T any](name string, data []byte, limit bounds) ([]doc[T], error) {
	if err := limit.check(data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var docs []doc[T]
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for n := 1; ; n++ {
		var node yaml.Node
		err := dec.Decode(&node)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if limit.documents > 0 && n > limit.documents {
			return nil, hint.Errorf(manyFiles, "%s: more than %d documents", name, limit.documents)
		}
		if err != nil && seal.IsSecret(err.Error()) {
			return nil, fmt.Errorf("%s: it contains a private key", name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s", name, shorten(located(err.Error())))
		}
		if err := limit.checkAliases(&node); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
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

// problems are what is wrong with a document, and the lines of its fields, by
// path.
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
	err  error
}

// add notes that the field at path is wrong. If the field is missing, the line is
// that of what it belongs in.
func (p *problems) add(path, format string, args ...any) { p.note(path, fmt.Errorf(format, args...)) }

// addHint is add with a hint.
func (p *problems) addHint(hintText, path, format string, args ...any) {
	p.note(path, hint.Errorf(hintText, format, args...))
}

// full reports whether no more problems are noted.
func (p *problems) full() bool { return len(p.found) >= maxProblems }

func (p *problems) note(path string, err error) {
	if p.full() {
		return
	}
	at := path
	for at != "" && p.lines[at] == 0 {
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
	if path != "" {
		err = hint.Wrap(errors.New(shorten(fmt.Sprintf("%s: %v", path, err))), hint.Of(err))
	}
	p.found = append(p.found, problem{max(p.lines[at], 1), err})
}

func (p *problems) err() error {
	slices.SortStableFunc(p.found, func(a, b problem) int { return a.line - b.line })
	var errs []error
	for _, f := range p.found {
		errs = append(errs, fmt.Errorf("%s:%d: %w", p.file, f.line, f.err))
	}
	if p.full() {
		errs = append(errs, fmt.Errorf("%s: there may be more problems", p.file))
	}
	return errors.Join(errs...)
}

var lineNumber = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\n\s*)?line (\d+): `)

// located returns an error of the YAML library with its line, if it has one, at
// the beginning.
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
		p.found = append(p.found, problem{1, errors.New(located(err.Error()))})
		return
	}
	for _, text := range typeError.Errors {
		line := 1
		if m := lineNumber.FindStringSubmatch(text); m != nil {
			fmt.Sscan(m[1], &line)
			text = text[len(m[0]):]
		}
		p.found = append(p.found, problem{line, errors.New(text)})
	}
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// walk compares a document with the type that it will be decoded into, and notes
// unknown fields and texts that do not fit. It remembers the lines of fields.
func (p *problems) walk(n *yaml.Node, t reflect.Type, path string) {
	if p.full() {
		return
	}
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
	if n.Kind == yaml.ScalarNode && seal.IsSecret(n.Value) {
		p.addHint("put the key into a file of mode 0600, and set the name of that; others may have seen this key: "+
			"create a new one", path, "is a private key")
		return
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
		p.addHint("leave it out, fill it, or write {} for all defaults", path, "it is empty")
	case t.Kind() == reflect.Struct:
		p.add(path, "want fields, like %s: …", fieldNames(t)[0])
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			p.walk(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case t.Kind() == reflect.Slice && n.Tag != "!!null":
		p.addHint("begin each line of it with -", path, "want a list")
	}
}

func (p *problems) walkText(text string, value reflect.Value, path string) {
	err := value.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	switch {
	case err != nil:
		p.add(path, "%q: %v", text, err)
	case value.Elem().IsZero() && path != "shutdownDelay": // it would count as not set
		p.addHint("leave it out for the default", path, "%q: must be more than 0", text)
	}
}

func (p *problems) walkFields(n *yaml.Node, t reflect.Type, path string) {
	first := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content) && !p.full(); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if before := first[key.Value]; before != nil { // the library would compare each with each
			err := fmt.Errorf("mapping key %.64q already defined at line %d", key.Value, before.Line)
			p.found = append(p.found, problem{key.Line, err})
			continue
		}
		first[key.Value] = key
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
		if seal.IsSecret(key.Value) {
			p.add(path, "the name of a field is a private key")
			continue
		}
		at := key.Value
		if path != "" {
			at = path + "." + key.Value
		}
		p.lines[at] = key.Line
		field, ok := fieldOf(t, key.Value)
		if !ok {
			p.addHint(nearest(key.Value, fieldNames(t)), at, "unknown field")
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
	if len(name) > maxName {
		name = name[:maxName]
	}
	if best := hint.Nearest(name, names); best != "" {
		return "did you mean " + best + "?"
	}
	return "there are " + strings.Join(names, ", ")
}
