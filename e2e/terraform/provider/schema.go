package main

import (
	"encoding/json"
	"fmt"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// These are schemas as they are recorded, a part of what `terraform providers
// schema -json` prints.
type (
	schema struct{ Block block }
	block  struct {
		Attributes map[string]struct {
			Type                         json.RawMessage
			Required, Optional, Computed bool
		}
		Blocks map[string]struct {
			Nesting string `json:"nesting_mode"`
			Block   block
			Min     int64 `json:"min_items"`
			Max     int64 `json:"max_items"`
		} `json:"block_types"`
	}
)

func (s schema) proto() (*tfprotov5.Schema, error) {
	b, err := s.Block.proto()
	return &tfprotov5.Schema{Block: b}, err
}

var nestings = map[string]tfprotov5.SchemaNestedBlockNestingMode{
	"single": tfprotov5.SchemaNestedBlockNestingModeSingle,
	"list":   tfprotov5.SchemaNestedBlockNestingModeList,
	"set":    tfprotov5.SchemaNestedBlockNestingModeSet,
}

func (b block) proto() (*tfprotov5.SchemaBlock, error) {
	p := &tfprotov5.SchemaBlock{}
	for name, a := range b.Attributes {
		of, err := tftypes.ParseJSONType(a.Type)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		p.Attributes = append(p.Attributes, &tfprotov5.SchemaAttribute{
			Name: name, Type: of, Required: a.Required, Optional: a.Optional, Computed: a.Computed,
		})
	}
	for name, n := range b.Blocks {
		inner, err := n.Block.proto()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		nesting, ok := nestings[n.Nesting]
		if !ok {
			return nil, fmt.Errorf("%s: nesting %q is not known", name, n.Nesting)
		}
		p.BlockTypes = append(p.BlockTypes, &tfprotov5.SchemaNestedBlock{
			TypeName: name, Block: inner, Nesting: nesting, MinItems: n.Min, MaxItems: n.Max,
		})
	}
	return p, nil
}
