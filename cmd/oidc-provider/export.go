package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"oidc-provider/internal/config"
	"oidc-provider/internal/fleet"
	"oidc-provider/internal/hint"
	"oidc-provider/internal/publish"
	"oidc-provider/web"
)

func newExportCommand() *cobra.Command {
	var (
		ring   ringFlags
		output outputFlag
		out    string
	)
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the documents as files for a web server or a bucket",
		Long: `Write the documents of an issuer, or of all issuers of a configuration file, as
files: those of https://HOST/PATH below DIR/HOST/PATH, so that DIR/HOST is what a
web server or a bucket for HOST serves. Files whose content is the same are not
touched; each of the others is replaced in one step. Nothing else in DIR is
looked at: the files of issuers that are gone are yours to remove.

Serve the key set as application/jwk-set+json and the configuration as
application/json, both with Cache-Control: max-age of a few minutes.

An issuer that cannot be read keeps its files; the others are written, and the exit
status is 1. Repeat this at least four times within
the publish-ahead of a ring: servers rotate without waiting for files, unless they are
a registered copy of the ring: see 'keys copies'.`,
		Example: `  oidc-provider export --out public --store /var/lib/oidc-provider
  oidc-provider export --out public --config config.yaml && aws s3 sync public/oidc.example.com s3://oidc-example-com`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return hint.Errorf("the directory to write to", "--out is required")
			}
			if err := ring.check(cmd); err != nil {
				return err
			}
			var results []exported
			if ring.file == "" {
				docs, err := fleet.RingDocuments(cmd.Context(), ring.store, ring.issuer)
				results = []exported{export(cmp.Or(ring.issuer, ring.store.Store), out, docs, nil, err)}
			} else {
				cfg, issuers, err := config.LoadAll(ring.file)
				if cfg == nil {
					return err
				}
				if err != nil {
					warn(cmd, "%v", err)
				}
				results = exportAll(cmd.Context(), cfg, issuers, out)
			}
			return printExported(cmd, results, &output)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory `DIR` to write to")
	ring.add(cmd)
	output.add(cmd, "table")
	return cmd
}

// exportInfo is what `export -o json` shows.
type exportInfo struct {
	Issuers []exported `json:"issuers"`
}

// exported is what became of the files of an issuer.
type exported struct {
	Issuer string `json:"issuer"`
	// Written are the files that were new or had changed, Unchanged the others.
	Written   []string `json:"written"`
	Unchanged []string `json:"unchanged"`
	// Warning says that the documents are good ones and not fresh, Error that
	// nothing was written.
	Warning string `json:"warning,omitempty"`
	Error   string `json:"error,omitempty"`
}

// exportWorkers is how many issuers are asked at a time.
const exportWorkers = 16

func exportAll(ctx context.Context, cfg *config.Config, issuers []config.Issuer, out string) []exported {
	results := make([]exported, len(issuers))
	var g errgroup.Group
	g.SetLimit(exportWorkers)
	for i := range issuers {
		g.Go(func() error {
			docs, stale, err := fleet.Documents(ctx, &issuers[i], cfg.StateDir)
			results[i] = export(issuers[i].Issuer, out, docs, stale, err)
			return nil
		})
	}
	g.Wait()
	return results
}

// export writes the documents of an issuer, unless err is why there are none.
// stale is why they are not the newest.
func export(issuer, out string, docs *web.Documents, stale, err error) exported {
	e := exported{Issuer: issuer, Written: []string{}, Unchanged: []string{}}
	if stale != nil {
		e.Warning = hint.Text(stale, flagName)
	}
	if err == nil {
		e.Issuer = docs.Issuer().String()
		var written, unchanged []string
		written, unchanged, err = publish.WriteFiles(out, docs.Issuer(), docs.Files())
		e.Written, e.Unchanged = append(e.Written, written...), append(e.Unchanged, unchanged...)
	}
	if err != nil {
		e.Error = hint.Text(err, flagName)
	}
	return e
}

func printExported(cmd *cobra.Command, results []exported, output *outputFlag) error {
	failed := 0
	for _, e := range results {
		if e.Error != "" {
			failed++
			warn(cmd, "issuer %s was left as it was: %s", e.Issuer, e.Error)
		} else if e.Warning != "" {
			warn(cmd, "issuer %s: what was known before was written: %s", e.Issuer, e.Warning)
		}
	}
	if output.structured() {
		if err := output.write(cmd.OutOrStdout(), exportInfo{results}); err != nil {
			return err
		}
	} else if err := printExportTable(cmd, results); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d issuers could not be exported", failed, len(results))
	}
	return nil
}

func printExportTable(cmd *cobra.Command, results []exported) error {
	var rows [][]string
	for _, e := range results {
		for _, name := range e.Written {
			rows = append(rows, []string{name, "written"})
		}
		for _, name := range e.Unchanged {
			rows = append(rows, []string{name, "unchanged"})
		}
	}
	return writeTable(cmd.OutOrStdout(), []string{"FILE", "STATUS"}, rows)
}
