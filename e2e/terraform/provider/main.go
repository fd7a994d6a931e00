// Command provider stands in for a Terraform provider that cannot be had in the
// tests: it has the schemas of the real one, so that `terraform validate` judges
// a configuration by them, and creates nothing. Which provider it is follows
// from its file name, terraform-provider-NAME.
package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tfprotov5/tf5server"
)

//go:embed schemas
var schemas embed.FS

func main() {
	name := strings.TrimPrefix(filepath.Base(os.Args[0]), "terraform-provider-")
	if err := serve(name); err != nil {
		fmt.Fprintln(os.Stderr, "provider:", err)
		os.Exit(1)
	}
}

func serve(name string) error {
	data, err := schemas.ReadFile("schemas/" + name + ".json")
	if err != nil {
		return err
	}
	var recorded struct {
		Resources   map[string]schema `json:"resource_schemas"`
		DataSources map[string]schema `json:"data_source_schemas"`
	}
	if err := json.Unmarshal(data, &recorded); err != nil {
		return err
	}
	answer := &tfprotov5.GetProviderSchemaResponse{
		Provider:          &tfprotov5.Schema{Block: &tfprotov5.SchemaBlock{}},
		ResourceSchemas:   map[string]*tfprotov5.Schema{},
		DataSourceSchemas: map[string]*tfprotov5.Schema{},
	}
	for name, s := range recorded.Resources {
		if answer.ResourceSchemas[name], err = s.proto(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, s := range recorded.DataSources {
		if answer.DataSourceSchemas[name], err = s.proto(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return tf5server.Serve("hashicorp/"+name, func() tfprotov5.ProviderServer {
		return server{schemas: answer}
	})
}

// A server answers what `terraform validate` asks. Terraform itself compares the
// configuration with the schemas, before it asks whether there is more to say.
type server struct {
	tfprotov5.ProviderServer // nil: nothing else is asked
	schemas                  *tfprotov5.GetProviderSchemaResponse
}

func (s server) GetProviderSchema(context.Context, *tfprotov5.GetProviderSchemaRequest) (*tfprotov5.GetProviderSchemaResponse, error) {
	return s.schemas, nil
}

func (s server) PrepareProviderConfig(_ context.Context, r *tfprotov5.PrepareProviderConfigRequest) (*tfprotov5.PrepareProviderConfigResponse, error) {
	return &tfprotov5.PrepareProviderConfigResponse{PreparedConfig: r.Config}, nil
}

func (s server) ValidateResourceTypeConfig(context.Context, *tfprotov5.ValidateResourceTypeConfigRequest) (*tfprotov5.ValidateResourceTypeConfigResponse, error) {
	return &tfprotov5.ValidateResourceTypeConfigResponse{}, nil
}

func (s server) ValidateDataSourceConfig(context.Context, *tfprotov5.ValidateDataSourceConfigRequest) (*tfprotov5.ValidateDataSourceConfigResponse, error) {
	return &tfprotov5.ValidateDataSourceConfigResponse{}, nil
}

func (s server) StopProvider(context.Context, *tfprotov5.StopProviderRequest) (*tfprotov5.StopProviderResponse, error) {
	return &tfprotov5.StopProviderResponse{}, nil
}
