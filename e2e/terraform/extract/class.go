package main

import (
	"fmt"
	"regexp"
	"strings"
)

// These are what `terraform providers schema -json` prints, as far as it is kept.
type (
	provider struct {
		Source      string            `json:"source"`
		Version     string            `json:"version"`
		Resources   map[string]schema `json:"resource_schemas"`
		DataSources map[string]schema `json:"data_source_schemas"`
	}
	schema struct {
		Block *block `json:"block"`
	}
	block struct {
		Attributes map[string]attribute `json:"attributes,omitempty"`
		Blocks     map[string]nested    `json:"block_types,omitempty"`
	}
	attribute struct {
		Type     any  `json:"type"`
		Required bool `json:"required,omitempty"`
		Optional bool `json:"optional,omitempty"`
		Computed bool `json:"computed,omitempty"`
	}
	nested struct {
		Nesting string `json:"nesting_mode"`
		Block   *block `json:"block"`
		Min     int    `json:"min_items,omitempty"`
		Max     int    `json:"max_items,omitempty"`
	}
)

var (
	mainClass = regexp.MustCompile(`(?m)^export class (\w+) extends cdkt[fn]\.Terraform(Resource|DataSource) \{`)
	// A member is a comment with the flags, then how it is stored and got.
	member = regexp.MustCompile(`(?m)^  // (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n((?:.+\n)+)`)
	// An entry is a member as HCL has it. What only the provider sets has none.
	entry  = regexp.MustCompile(`(?m)^ +(\w+): \{\n +value: .*\n +isBlock: (true|false),\n +type: "(\w+)",\n +storageClassType: "(\w+)",\n`)
	single = regexp.MustCompile(`= new \w+OutputReference\(`)
	getter = regexp.MustCompile(`return (cdkt[fn]\.Fn\.tolist\()?this\.get(\w+)Attribute\('`)
)

// readClass reads the one resource or data source of a file.
func readClass(source string) (*block, error) {
	class := mainClass.FindStringSubmatch(source)
	if class == nil {
		return nil, fmt.Errorf("no class")
	}
	text := between(source, class[0], "\n}\n")
	return readBlock(source, text, between(text, "synthesizeHclAttributes(", "\n  }\n"))
}

// readBlock reads a block from the class that holds it and the part of the
// source that writes it as HCL.
func readBlock(source, class, hcl string) (*block, error) {
	b := &block{Attributes: map[string]attribute{}, Blocks: map[string]nested{}}
	entries := map[string][]string{}
	for _, e := range entry.FindAllStringSubmatch(hcl, -1) {
		entries[e[1]] = e
	}
	for _, m := range member.FindAllStringSubmatch(class, -1) {
		name, body := m[1], m[5]
		a := attribute{Computed: m[2] == "true", Optional: m[3] == "true", Required: m[4] == "true"}
		e, ok := entries[name]
		delete(entries, name)
		var err error
		switch {
		case !ok:
			a.Type, err = computedType(body)
			b.Attributes[name] = a
		case e[2] == "true":
			b.Blocks[name], err = readNested(source, a.Required, single.MatchString(body), e[3], e[4])
		default:
			a.Type, err = attributeType(e[3], e[4])
			b.Attributes[name] = a
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for name := range entries {
		return nil, fmt.Errorf("%s: no flags", name)
	}
	return b, nil
}

func readNested(source string, required, alone bool, kind, storage string) (nested, error) {
	n := nested{Nesting: kind}
	if kind == "struct" {
		n.Nesting = "single"
	} else {
		storage = strings.TrimSuffix(storage, "List")
		if required {
			n.Min = 1
		}
		if alone {
			n.Max = 1
		}
	}
	class := between(source, "\nexport class "+storage+"OutputReference extends", "\n}\n")
	hcl := between(source, "\nexport function "+strings.ToLower(storage[:1])+storage[1:]+"ToHclTerraform(", "\n}\n")
	if class == "" || hcl == "" {
		return n, fmt.Errorf("no class of %s", storage)
	}
	var err error
	n.Block, err = readBlock(source, class, hcl)
	return n, err
}

var primitives = map[string]string{"string": "string", "number": "number", "boolean": "bool"}

// attributeType is a type in Terraform's JSON.
func attributeType(kind, storage string) (any, error) {
	if kind == "simple" && primitives[storage] != "" {
		return primitives[storage], nil
	}
	of := primitives[strings.TrimSuffix(strings.TrimSuffix(storage, "List"), "Map")]
	if of == "" || kind != "list" && kind != "set" && kind != "map" {
		return nil, fmt.Errorf("type %s of %s is not known", kind, storage)
	}
	return []string{kind, of}, nil
}

// computedType is the type of what only the provider sets. That of an object is
// not known, which is enough for those who refer to it.
func computedType(body string) (any, error) {
	get := getter.FindStringSubmatch(body)
	switch {
	case get == nil && strings.Contains(body, "= new "):
		return "dynamic", nil
	case get == nil:
		return nil, fmt.Errorf("no getter in %q", body)
	case get[1] != "":
		return []string{"set", "string"}, nil
	case get[2] == "List":
		return []string{"list", "string"}, nil
	case get[2] == "Boolean":
		return "bool", nil
	case strings.HasSuffix(get[2], "Map"):
		return attributeType("map", strings.ToLower(get[2][:1])+get[2][1:])
	default:
		return attributeType("simple", strings.ToLower(get[2]))
	}
}

// between is the part of s after the first start, up to the next end.
func between(s, start, end string) string {
	_, s, _ = strings.Cut(s, start)
	s, _, _ = strings.Cut(s, end)
	return s
}
