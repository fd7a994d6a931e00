// Command extract records in provider/schemas what Terraform's providers want to
// find in those resources and data sources that `oidc-provider trust` prints:
//
//	go run ./extract
//
// The schemas themselves come only from the providers. What it reads are the
// TypeScript classes that were generated from them, in packages of npm: each
// attribute has a comment there with its flags, and its type in the method that
// writes HCL. Descriptions and defaults are not kept.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// A source is a package and the classes to take from it, as Terraform names
// what they stand for.
type source struct {
	provider          string
	npm               string
	resources, datums []string
}

var sources = []source{
	{"aws", "@cdktn/provider-aws@25.7.0",
		[]string{"aws_iam_openid_connect_provider", "aws_iam_role", "aws_iam_role_policy_attachment"},
		[]string{"aws_iam_policy_document"}},
	{"azuread", "@cdktf/provider-azuread@14.3.1",
		[]string{"azuread_application_federated_identity_credential"},
		[]string{"azuread_application"}},
	{"azurerm", "@cdktn/provider-azurerm@16.1.0",
		[]string{"azurerm_federated_identity_credential", "azurerm_user_assigned_identity"},
		[]string{"azurerm_resource_group"}},
	{"google", "@cdktf/provider-google@16.12.1",
		[]string{"google_iam_workload_identity_pool", "google_iam_workload_identity_pool_provider", "google_project_iam_member", "google_service_account_iam_member"},
		nil},
	{"vault", "@cdktf/provider-vault@15.6.1",
		[]string{"vault_jwt_auth_backend", "vault_jwt_auth_backend_role"},
		nil},
}

func main() {
	for _, s := range sources {
		if err := s.record(filepath.Join("provider", "schemas", s.provider+".json")); err != nil {
			fmt.Fprintf(os.Stderr, "extract: %s: %v\n", s.npm, err)
			os.Exit(1)
		}
	}
}

func (s source) record(file string) error {
	classes, err := s.download()
	if err != nil {
		return err
	}
	p := provider{Source: s.npm, Resources: map[string]schema{}, DataSources: map[string]schema{}}
	for _, name := range s.resources {
		if p.Resources[name], p.Version, err = classes.schema(strings.TrimPrefix(name, s.provider+"_")); err != nil {
			return fmt.Errorf("resource %s: %w", name, err)
		}
	}
	for _, name := range s.datums {
		if p.DataSources[name], p.Version, err = classes.schema("data_" + name); err != nil {
			return fmt.Errorf("data source %s: %w", name, err)
		}
	}
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// classes has the JavaScript of a package, by the name of its directory.
type classes map[string][]byte

// download has npm get the package, without running any of it.
func (s source) download() (classes, error) {
	dir, err := os.MkdirTemp("", "extract")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	npm := exec.Command("npm", "pack", "--silent", "--pack-destination", dir, s.npm)
	npm.Stderr = os.Stderr
	name, err := npm.Output()
	if err != nil {
		return nil, fmt.Errorf("npm pack: %w", err)
	}
	file, err := os.Open(filepath.Join(dir, strings.TrimSpace(string(name))))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return untar(file)
}

func untar(file io.Reader) (classes, error) {
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	found := classes{}
	archive := tar.NewReader(unzipped)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if path.Base(header.Name) != "index.js" {
			continue
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		found[path.Base(path.Dir(header.Name))] = data
	}
}

var (
	sourceMap       = regexp.MustCompile(`//# sourceMappingURL=data:application/json;base64,(\S+)`)
	providerVersion = regexp.MustCompile(`providerVersion: '([^']+)'`)
)

// schema reads the class of a resource, and the version of its provider.
func (c classes) schema(name string) (schema, string, error) {
	script, ok := c[strings.ReplaceAll(name, "_", "-")]
	if !ok {
		return schema{}, "", errors.New("no such class")
	}
	// The comments survive in the source map only.
	encoded := sourceMap.FindSubmatch(script)
	if encoded == nil {
		return schema{}, "", errors.New("no source map")
	}
	decoded, err := base64.StdEncoding.DecodeString(string(encoded[1]))
	if err != nil {
		return schema{}, "", err
	}
	var m struct{ SourcesContent []string }
	if err := json.NewDecoder(bytes.NewReader(decoded)).Decode(&m); err != nil || len(m.SourcesContent) != 1 {
		return schema{}, "", fmt.Errorf("source map of %d sources, %w", len(m.SourcesContent), err)
	}
	version := providerVersion.FindStringSubmatch(m.SourcesContent[0])
	if version == nil {
		return schema{}, "", errors.New("no version of the provider")
	}
	block, err := readClass(m.SourcesContent[0])
	return schema{Block: block}, version[1], err
}
