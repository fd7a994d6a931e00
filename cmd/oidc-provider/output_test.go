package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestOutput(t *testing.T) {
	type item struct {
		Name string `json:"name"`
	}
	object := struct {
		Items []item `json:"items"`
		Open  *int   `json:"open"`
	}{Items: []item{{"<a> & b"}}}
	for _, test := range []struct{ format, one, next string }{
		{"json", "{\n  \"items\": [\n    {\n      \"name\": \"<a> & b\"\n    }\n  ],\n  \"open\": null\n}\n", `{"items":[{"name":"<a> & b"}],"open":null}` + "\n"},
		{"yaml", "items:\n- name: <a> & b\nopen: null\n", "---\nitems:\n- name: <a> & b\nopen: null\n"},
	} {
		t.Run(test.format, func(t *testing.T) {
			var o outputFlag
			o.add(new(cobra.Command), "table")
			if err := o.Set(test.format); err != nil || !o.structured() {
				t.Fatalf("Set(%q): %v, structured %v", test.format, err, o.structured())
			}
			var one, next strings.Builder
			if err := o.write(&one, object); err != nil || one.String() != test.one {
				t.Errorf("write: got %q, %v", one.String(), err)
			}
			if err := o.writeNext(&next, object); err != nil || next.String() != test.next {
				t.Errorf("writeNext: got %q, %v", next.String(), err)
			}
		})
	}
}

func TestOutputFormats(t *testing.T) {
	var o outputFlag
	o.add(new(cobra.Command), "text")
	if o.structured() || o.String() != "text" {
		t.Errorf("default: got %q, structured %v", o.String(), o.structured())
	}
	if err := o.Set("table"); err == nil || !strings.Contains(err.Error(), "text, json, yaml") {
		t.Errorf("Set(table): got %v", err)
	}
}

func TestWriteTable(t *testing.T) {
	var b strings.Builder
	if err := writeTable(&b, []string{"NAME", "STATE", "NOTE"}, [][]string{{"a", "good", ""}, {"long name", "bad", "why"}}); err != nil {
		t.Fatal(err)
	}
	want := "NAME        STATE   NOTE\na           good\nlong name   bad     why\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
